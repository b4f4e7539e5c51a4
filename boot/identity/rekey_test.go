package identity_test

import (
	"slices"
	"testing"
)

// New keys reach the board, whatever it has, and are its own from then on.
func TestRekey(t *testing.T) {
	b := newBox(t)
	if is, err := b.store().Rekey(); err != nil || len(is) > 0 {
		t.Errorf("a board without keys: %q, %v", is, err)
	}
	b.seed()
	const private = "etc/ssh/ssh_host_ed25519_key"
	old := b.read(private)
	b.write("upper/"+private, old, 0o600) // as the overlay has it
	was, err := b.store().HostKeys()
	must(t, err)
	is, err := b.store().Rekey()
	must(t, err)
	if len(was) != 2 || len(is) != 2 || slices.Contains(is, was[0]) || slices.Contains(is, was[1]) {
		t.Errorf("keys were %q, and are %q", was, is)
	}
	b.seed()
	g, err := b.store().Given()
	must(t, err)
	if b.read(private) == old || !slices.Equal(g.HostKeys, is) {
		t.Errorf("the board has %q", g.HostKeys)
	}
	// The old key comes into no image either.
	if !g.IsSecret("tmp/copy", []byte(old)) {
		t.Error("the old key is no secret any more")
	}
	// A damaged key is mended by this.
	b.write("state/identity/ssh_host_ed25519_key", "rubbish", 0o600)
	_, err = b.store().Rekey()
	must(t, err)
	b.seed()
}
