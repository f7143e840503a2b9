"""What a page of the book is made with: a chapter, its figures and its film."""
