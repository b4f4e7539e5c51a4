package rawfs

// Name is the name of a directory entry with a NUL behind it, as the kernel takes it.
type Name [256]byte

// Set makes n the name s, or as much of it as has room: callers bound it by NAME_MAX, which
// is a byte less.
func (n *Name) Set(s string) { n[copy(n[:len(n)-1], s)] = 0 }

// Is says whether n is the name s.
func (n *Name) Is(s string) bool {
	return len(s) < len(n) && string(n[:len(s)]) == s && n[len(s)] == 0
}
