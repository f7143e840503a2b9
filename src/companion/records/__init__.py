"""What training leaves behind: record files, where they were made, and results read off them."""
