// Package boardtext makes the text of a file of one board from a template and the facts of that board.
package boardtext
