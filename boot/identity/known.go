package identity

import "slices"

// MaxFile bounds a file that a board is given, in bytes: what is larger is none.
const MaxFile = maxFile

// read reads a file of a tree, as layered.View.ReadFile does.
type read func(path string, limit int64) ([]byte, error)

// Unchanged are the paths, without the first slash, at which a tree has what the board
// was given, as it was given.
func (g Given) Unchanged(read read) map[string]bool {
	return g.paths(read, func(GivenFile) bool { return false })
}

// Owned are Unchanged and what is the server's whatever the board made of it: it is
// given again at the next boot.
func (g Given) Owned(read read) map[string]bool {
	return g.paths(read, func(f GivenFile) bool { return f.Now && !f.Shared })
}

func (g Given) paths(read read, always func(GivenFile) bool) map[string]bool {
	out := map[string]bool{}
	for _, f := range g.Files {
		name := f.Path[1:]
		if always(f) {
			out[name] = true
			continue
		}
		data, err := read(name, maxFile)
		if err == nil && slices.Contains(f.Digests, digest(data)) {
			out[name] = true
		}
	}
	return out
}

// IsSecret says whether a file may be in no image: a secret that the board was given, now
// or earlier, or one with the same content under another name. path has no first slash.
func (g Given) IsSecret(path string, data []byte) bool {
	d := digest(data)
	return slices.ContainsFunc(g.Files, func(f GivenFile) bool {
		return f.Secret && (f.Path[1:] == path && f.Now || len(data) > 0 && slices.Contains(f.Digests, d))
	})
}
