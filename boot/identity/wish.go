package identity

import (
	"io/fs"

	"rubus/config/boardtext"
)

// Wish is what the admin wants of a board's identity. It is not changed once it is made.
type Wish struct {
	// Hostname is the board's; "": the default, which gives way to what the board has.
	Hostname string
	// MachineID, 32 hex digits, stands in for the one that the server made; "": none does.
	MachineID string
	// NoHostKeys leaves ssh host keys to the board. HostKeys are files with private
	// keys that it gets in place of those that the server made.
	NoHostKeys bool
	HostKeys   []string
	// Keys are, by user, what may log in as that user.
	Keys map[string][]Key
	// Files are other files, each path once.
	Files []File
	// Facts are what templates may name; MAC, Address, Image and Hostname are filled
	// in when the files are written.
	Facts boardtext.Facts
}

// Key is one line of authorized_keys, or a file on the server that has such lines.
type Key struct{ Line, File string }

// File is a file that a board is given.
type File struct {
	Path string
	// One of these says what is in it: a text, a template, or a file on the server.
	Content  string
	Template *boardtext.Template
	From     string
	// Secret says that From is one: others may not read it there.
	Secret bool
	// Mode has the permission bits.
	Mode fs.FileMode
	// Owner is "user", "user:group" or numbers, as the board knows them; "": root.
	Owner string
}
