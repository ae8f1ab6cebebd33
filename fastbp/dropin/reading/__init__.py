"""What somebody's code does, read from its text: whether it is the book's, only computes, goes through layers."""
