"""What listens to the path, and the pages and routes of its operators."""
