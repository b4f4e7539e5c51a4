package handlefs

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"rubus/nfsexport"
)

// TestAttrsOfManyBoards: boards of one image share what is known of it, and nothing of what
// any of them does. Boards come while others change what they have, and what each is told is
// what the kernel says of its root.
func TestAttrsOfManyBoards(t *testing.T) {
	for _, fsType := range []string{"tmpfs", "ext4"} {
		for seed := range uint64(2) {
			t.Run(fmt.Sprint(fsType, seed), func(t *testing.T) {
				first := newTruth(t, diskOf(t, fsType), seed, fsType == "tmpfs")
				boards := []*truth{first}
				var told []string
				t.Cleanup(func() {
					if t.Failed() {
						t.Log(strings.Join(told[max(0, len(told)-40):], "\n"))
					}
				})
				for i := range 48 {
					if i%8 == 0 {
						n := *first
						n.world, n.seen = first.next(t, nfsexport.ID(100+i)), map[string]bool{}
						n.rng = rand.New(rand.NewPCG(seed, uint64(1+i)))
						boards = append(boards, &n)
					}
					k := first.rng.IntN(len(boards))
					told = append(told, fmt.Sprintf("board %d: %s", k, boards[k].step()))
					for k, b := range boards {
						if first.rng.IntN(3) > 0 { // what was not asked for then is remembered for longer
							b.check(fmt.Sprintf("board %d after %s", k, told[i]))
						}
					}
					first.settle()
				}
			})
		}
	}
}
