// Package identity keeps what makes a board that one board, and puts it into its root.
//
// That is a machine id and ssh host keys, made once for each board and kept by the
// server, and what devices.yaml gives it: a host name, keys of users, files. None of it
// is in an image, and none in the board's writes alone: whatever becomes of these, the
// board has it again at its next boot. It is written through the mounted root, while
// nobody runs on it: so the kernel does the copying up, and a board is never changed
// under its feet.
package identity
