package layer

import (
	"fmt"
	"strings"
	"sync"
)

// Notes collects what an import has to say: each kind once, with a count and a
// few examples. Its methods may be called from several goroutines.
type Notes struct {
	mu    sync.Mutex
	order []string
	kinds map[string]*kind
}

type kind struct {
	count    int
	examples []string
}

// NewNotes is no notes yet.
func NewNotes() *Notes { return &Notes{kinds: make(map[string]*kind)} }

// Add notes that what happened to path; "" for none.
func (n *Notes) Add(what, path string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	k := n.kinds[what]
	if k == nil {
		k = &kind{}
		n.kinds[what] = k
		n.order = append(n.order, what)
	}
	k.count++
	if path != "" && len(k.examples) < 3 {
		k.examples = append(k.examples, fmt.Sprintf("%q", path))
	}
}

// Lines gives one line for each kind, in the order of their first appearance.
func (n *Notes) Lines() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []string
	for _, what := range n.order {
		k := n.kinds[what]
		line := what
		if len(k.examples) > 0 {
			line += ": " + strings.Join(k.examples, ", ")
		}
		if more := k.count - len(k.examples); more > 0 && len(k.examples) > 0 {
			line += fmt.Sprintf(" and %d more", more)
		}
		out = append(out, line)
	}
	return out
}
