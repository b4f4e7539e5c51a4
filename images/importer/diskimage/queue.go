package diskimage

import (
	"cmp"
	"container/heap"
	"math"

	"rubus/images/importer/layer"
)

// name is one of a disk image that is to be copied.
type name struct {
	dir    *layer.Node
	name   string
	number uint32
	// read says that need is that of the content, too, not of the inode alone.
	read bool
	// need is how many bytes of the file system have to be there; the turn is that of names with the same.
	need, turn int64
}

// late is the need of what may need anything.
const late = math.MaxInt64

// queue has the name on top that needs the least of the image: so an image is copied while it comes, and one
// that is there is read from its begin to its end.
type queue struct {
	names []name
	turns int64
}

func (q *queue) push(n name) {
	q.turns++
	n.turn = q.turns
	heap.Push((*byNeed)(q), n)
}

func (q *queue) pop() name { return heap.Pop((*byNeed)(q)).(name) }

// byNeed is queue for container/heap.
type byNeed queue

func (q *byNeed) Len() int { return len(q.names) }

func (q *byNeed) Less(i, j int) bool {
	a, b := &q.names[i], &q.names[j]
	return cmp.Or(cmp.Compare(a.need, b.need), cmp.Compare(a.turn, b.turn)) < 0
}

func (q *byNeed) Swap(i, j int) { q.names[i], q.names[j] = q.names[j], q.names[i] }

func (q *byNeed) Push(n any) { q.names = append(q.names, n.(name)) }

func (q *byNeed) Pop() any {
	last := len(q.names) - 1
	n := q.names[last]
	q.names[last] = name{}
	q.names = q.names[:last]
	return n
}
