package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"rubus/cmd/rubus/e2e/harness"
	"rubus/config/device"
)

// stormServer is a server on a machine of its own with a client that mounts a
// root from it.
type stormServer struct {
	*serverMachine
	client *machine
	start  func()        // after power-on
	root   func() string // the client's root, on the server machine
}

// stormRubus makes a server machine with rubus and boots a board from it.
func stormRubus(l *lab, tree string) *stormServer {
	l.t.Helper()
	l.devices("defaults: {image: lab}\ndevices:\n  - serial: b8123456\n")
	s := l.newServerMachine(10)
	s.on()
	s.rubus("image import lab " + tree)
	s.serve()
	b := l.board("3b", "b8123456", "b8:27:eb:12:34:56", 101)
	return &stormServer{s, b.boot(), s.serve, func() string {
		slots := s.record(b).Slots
		return fmt.Sprintf("%s/roots/%s/%d", serverState, b.serial, slots[len(slots)-1].N)
	}}
}

// stormNfsd makes a server machine whose kernel serves an overlay as rubus
// mounts it, on the same kind of disk.
func stormNfsd(l *lab, tree string) *stormServer {
	l.t.Helper()
	// What a power cut leaves in the index may fail a first mount or two.
	return stormKernel(l, tree, "/mnt/ov", `cd /mnt/disk; mkdir -p upper work /mnt/ov
for try in {1..100}; do
	! mount -t overlay -o nosuid,nodev,lowerdir=lower,upperdir=upper,workdir=work,index=on,nfs_export=on,redirect_dir=on,metacopy=off nfsd /mnt/ov || break
done`)
}

// stormPlain is stormNfsd without an overlay.
func stormPlain(l *lab, tree string) *stormServer {
	l.t.Helper()
	return stormKernel(l, tree, "/mnt/disk/lower", "")
}

// stormKernel makes a server machine whose kernel serves root, which mount
// makes of a copy of tree in /mnt/disk/lower.
func stormKernel(l *lab, tree, root, mount string) *stormServer {
	l.t.Helper()
	tools := strings.TrimSpace(harness.Run(l.t, filepath.Join(shared.Scripts, "peer-tools")))
	s := l.newServerMachine(10)
	s.on()
	s.m.all(fmt.Sprintf("cp -a %s /mnt/disk/lower; sync", tree))
	serve := func() {
		s.m.all(fmt.Sprintf("%s\n%s/scripts/nfsd-serve %s %s", mount, s.m.share, tools, root))
	}
	serve()
	mac, err := device.ParseMAC("b8:27:eb:12:34:56")
	must(l.t, err)
	m := l.machine("client", mac, 101)
	m.mount(l.addr(s.host).String(), root)
	return &stormServer{s, m, serve, func() string { return root }}
}

// TestStormPowerCut: the power of the server machine goes at any moment of a
// storm. What was acknowledged is there. A call whose answer was lost with the
// power may be told that its effect is there already; how often is counted,
// beside what the kernel's server does in the same storm.
func TestStormPowerCut(t *testing.T) {
	t.Parallel()
	seed, cuts := stormSeed(t), rounds(2, 15)
	type kind struct {
		name string
		make func(*lab, string) *stormServer
	}
	kinds := []kind{{"rubus", stormRubus}, {"nfsd", stormNfsd}}
	if rounds(0, 1) == 1 {
		kinds = append(kinds, kind{"nfsd, no overlay", stormPlain})
	}
	found := make([]findings, len(kinds))
	t.Run("server", func(t *testing.T) {
		for i, kind := range kinds {
			t.Run(kind.name, func(t *testing.T) {
				t.Parallel()
				l := newLab(t)
				tree := goldenTree(t, filepath.Join(l.dir, "golden"))
				sow(t, tree)
				s := kind.make(l, tree)
				found[i] = s.cutUnder(seed, cuts, kind.name == "rubus")
				t.Logf("%d power cuts:\n%s", found[i].cuts, firstLines(found[i].text, 60))
			})
		}
	})
	t.Logf("power cuts under a storm, and one after it:\n%-16s %8s %8s %10s %8s %8s", "server", "cuts", "ops", "tolerated", "failed", "wrong")
	for i, f := range found {
		t.Logf("%-16s %8d %8d %10d %8d %8d", kinds[i].name, f.cuts, f.ops, f.tolerated, f.failed, f.wrong)
	}
}

// cutUnder cuts the power some times under a storm and once right after it, and
// gives what is found then. A server that must be good fails the test when that
// is wrong; another's storm may end early, with calls that never come back.
func (s *stormServer) cutUnder(seed uint64, cuts int, good bool) findings {
	s.l.t.Helper()
	again := func() {
		s.m.cut()
		s.on()
		s.start()
	}
	storm := s.client.startStorm(seed)
	for n := range cuts {
		storm.moment()
		again()
		err := storm.tryGoOn()
		if err == nil {
			continue
		}
		if good {
			s.l.t.Fatalf("after power cut %d: %v", n+1, err)
		}
		storm.cutOff()
		f := storm.compare("the server", s.m, s.root())
		f.cuts = n + 1
		return f
	}
	storm.end()
	again()
	server := storm.compare("the server", s.m, s.root())
	client := storm.compare("the client", s.client, "/mnt/root")
	if good {
		server.mustBe(s.l.t, true)
		client.mustBe(s.l.t, true)
	}
	client.wrong = max(client.wrong, server.wrong)
	client.cuts = cuts + 1
	return client
}
