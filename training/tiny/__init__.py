"""How the bundled chat model `hone/tiny` is made: problems, tokenizer, training and evaluation."""
