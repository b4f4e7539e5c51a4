package identity_test

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"rubus/boot/identity"
)

// The first boot of a board makes and writes all; any other only looks.
func BenchmarkSeed(b *testing.B) {
	for _, again := range []bool{false, true} {
		name := map[bool]string{false: "first", true: "again"}[again]
		b.Run(name, func(b *testing.B) {
			dir := b.TempDir()
			for i := range b.N {
				root := filepath.Join(dir, strconv.Itoa(i))
				if again {
					root = filepath.Join(dir, "one")
				}
				for _, d := range []string{"root/etc/ssh", "upper", "state"} {
					if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
						b.Fatal(err)
					}
				}
				s := identity.Seed{Store: identity.Store{Dir: root + "/state/identity"}, Wish: &identity.Wish{}, Root: root + "/root", Upper: root + "/upper"}
				if _, err := s.Do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
