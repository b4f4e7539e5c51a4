package tftp

import (
	"net"
	"time"
)

// interfaces remembers how large the packets of an interface may be.
type interfaces struct{ known map[int]mtu }

type mtu struct {
	size  int
	until time.Time
}

// mtuFor is how long an answer of the kernel's counts: finding out costs more
// than a small file.
const mtuFor = 10 * time.Second

// mtu is the largest packet an interface takes.
func (i *interfaces) mtu(index int, now time.Time) int {
	if m := i.known[index]; now.Before(m.until) {
		return m.size
	}
	size := 1500
	if link, err := net.InterfaceByIndex(index); err == nil {
		size = link.MTU
	}
	if i.known == nil || len(i.known) > 1000 {
		i.known = make(map[int]mtu)
	}
	i.known[index] = mtu{size, now.Add(mtuFor)}
	return size
}
