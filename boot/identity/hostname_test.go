package identity_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// called wants the board to be called so, and to have written it in its upper, as the
// overlay does.
func (b *box) called(when, want string) {
	b.Helper()
	b.seed()
	got := b.read("etc/hostname")
	if got != want+"\n" {
		b.Errorf("%s the board is called %q, not %q", when, got, want)
	}
	b.write("upper/etc/hostname", got, 0o644)
}

// isReset gives the board a root without its writes.
func (b *box) isReset() {
	b.Helper()
	for _, dir := range []string{"root", "upper"} {
		must(b.T, os.Remove(filepath.Join(b.dir, dir, "etc/hostname")))
	}
}

// A host name that the board took itself is its own after a reset, too; one that it was
// given is not.
func TestOwnHostname(t *testing.T) {
	b := newBox(t)
	b.write("upper/etc/hostname", "own\n", 0o644)
	b.called("first", "own")
	b.isReset()
	b.called("after a reset", "own")
	b.wish.Hostname = "said"
	b.called("by devices.yaml", "said")
	b.wish.Hostname = ""
	b.called("without its entry", "own")
	b.write("upper/etc/hostname", "newer\n", 0o644)
	b.called("after hostnamectl", "newer")
	b.isReset()
	b.called("after another reset", "newer")

	c := newBox(t)
	c.wish.Hostname = "lab1"
	c.called("by devices.yaml", "lab1")
	c.wish.Hostname = ""
	c.called("with the name given away", "rpi-b8123456")
	c.write("upper/etc/hostname", "rpi-00000001\n", 0o644)
	c.called("with the name of another serial", "rpi-b8123456")
}

// No two boards are called the same.
func TestHostnameOfAnother(t *testing.T) {
	b := newBox(t)
	b.taken = map[string]string{"raspberrypi": "b8000001"}
	b.write("upper/etc/hostname", "raspberrypi\n", 0o644)
	res := b.seed()
	if got := b.read("etc/hostname"); got != "rpi-b8123456\n" || len(res.Problems) != 1 || !strings.Contains(res.Problems[0], "that of board b8000001") {
		t.Errorf("it is called %q, problems %q", got, res.Problems)
	}
	b.taken = nil
	b.called("when the name is free", "raspberrypi")
}

// Records of before own names were kept apart do not lose a board its name.
func TestOldRecordOfHostname(t *testing.T) {
	for _, said := range []string{"", "own"} {
		b := newBox(t)
		b.wish.Hostname = said
		b.write("upper/etc/hostname", "own\n", 0o644)
		b.called("first", "own")
		given := filepath.Join(b.dir, "state/identity/given.json")
		text, err := os.ReadFile(given)
		must(t, err)
		old := strings.NewReplacer(`"own_hostname": "own",`, "", `"knows_hostname": true,`, "").Replace(string(text))
		if old == string(text) {
			t.Fatalf("the record is %s", text)
		}
		must(t, os.WriteFile(given, []byte(old), 0o600))
		b.called("after the upgrade", "own")
		b.wish.Hostname = ""
		if said == "" {
			b.isReset()
			b.called("after a reset", "own")
		} else {
			b.called("with the name given away", "rpi-b8123456")
		}
	}
}
