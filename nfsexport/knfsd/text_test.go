package knfsd

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"

	"rubus/nfsexport"
)

const roots = "/var/lib/rubus/roots"

var (
	addr1 = netip.MustParseAddr("10.0.0.31")
	addr2 = netip.MustParseAddr("10.0.0.4")
)

// What is written for the host's tools is read back the same, and in one order.
func TestLines(t *testing.T) {
	lines := []line{
		{path: roots + "/b8123456/1", client: addr1, id: 0x0123456789abcdef},
		{path: roots + "/b8123456/1", client: addr2, id: 0x0123456789abcdef, insecure: true},
		{path: roots + "/1000000012345678/3", client: addr1, id: 1, held: true},
	}
	text := format(lines, roots)
	const want = fileHead +
		roots + "/1000000012345678/3 10.0.0.31/32(rw,sync,no_subtree_check,no_root_squash,secure,mountpoint=" + roots + ",fsid=72756275:73000000:00000000:00000001)\n" +
		roots + "/b8123456/1 10.0.0.4/32(rw,sync,no_subtree_check,no_root_squash,insecure,mountpoint,fsid=72756275:73000000:01234567:89abcdef)\n" +
		roots + "/b8123456/1 10.0.0.31/32(rw,sync,no_subtree_check,no_root_squash,secure,mountpoint,fsid=72756275:73000000:01234567:89abcdef)\n"
	if string(text) != want {
		t.Errorf("written:\n%s\nwant:\n%s", text, want)
	}
	if ours, foreign := parse(text, roots); foreign != 0 || !reflect.DeepEqual(ours, lines) {
		t.Errorf("read back: %+v and %d of others, want %+v", ours, foreign, lines)
	}
}

// An export of somebody else's is never taken for one of ours.
func TestForeignLines(t *testing.T) {
	const ours = "fsid=72756275:73000000:00000000:00000001"
	for _, c := range []struct {
		name, text string
		ours       int
		foreign    int
	}{
		{"as exportfs -s prints it", roots + "/b8123456/1  10.0.0.31/32(sync,wdelay,hide,no_subtree_check,mountpoint," + ours + ",sec=sys,rw,secure,no_root_squash,no_all_squash)\n", 1, 0},
		{"nothing but comments", "# /a b(c)\n\n", 0, 0},
		{"elsewhere", "/srv 10.0.0.31/32(rw," + ours + ")\n", 0, 1},
		{"the directory itself", roots + " 10.0.0.31/32(rw," + ours + ")\n", 0, 1},
		{"another's fsid", roots + "/b8123456/1 10.0.0.31/32(rw,fsid=7)\n", 0, 1},
		{"an fsid that is too short", roots + "/b8123456/1 10.0.0.31/32(rw,fsid=72756275:73000000:1)\n", 0, 1},
		{"no fsid", roots + "/b8123456/1 10.0.0.31/32(rw)\n", 0, 1},
		{"fsid 0 of ours", roots + "/b8123456/1 10.0.0.31/32(rw,fsid=72756275:73000000:00000000:00000000)\n", 0, 1},
		{"a whole network", roots + "/b8123456/1 10.0.0.0/24(rw," + ours + ")\n", 0, 1},
		{"everybody", roots + "/b8123456/1 *(rw," + ours + ")\n", 0, 1},
		{"two clients", roots + "/b8123456/1 10.0.0.31/32(rw," + ours + ") 10.0.0.4/32(rw," + ours + ")\n", 0, 1},
		{"no options", roots + "/b8123456/1 10.0.0.31/32\n", 0, 1},
	} {
		got, foreign := parse([]byte(c.text), roots)
		if len(got) != c.ours || foreign != c.foreign {
			t.Errorf("%s: %+v and %d of others", c.name, got, foreign)
		}
	}
}

func TestSafePath(t *testing.T) {
	for path, want := range map[string]bool{
		"/var/lib/rubus-2/a_b.c": true, "relative": false, "": false, "/with space": false, "/com,ma": false, "/new\nline": false, "/paren(": false, "/back\\slash": false, "/ü": false,
	} {
		if got := safePath(path); got != want {
			t.Errorf("%q: %v", path, got)
		}
	}
}

// The kernel's tables, as Linux 6.1 prints them.
func TestTables(t *testing.T) {
	uses := parseUses("#path domain(flags)\n" +
		"/mnt/disk/roots/b8123456/1\t10.77.1.101/32,10.77.1.0/24(rw,no_root_squash,sync,no_wdelay)\n" +
		"# /mnt/disk/roots/b8334455/1\t10.77.1.102/32(ro)\n" +
		"broken\n")
	want := []use{
		{"/mnt/disk/roots/b8123456/1", "10.77.1.101/32,10.77.1.0/24", true},
		{"/mnt/disk/roots/b8334455/1", "10.77.1.102/32", false},
	}
	if !reflect.DeepEqual(uses, want) {
		t.Errorf("uses: %+v", uses)
	}
	stats := parseStats("#path domain start-time\n#\tstats\n/a\t10.0.0.31/32\t17\n\tfh_stale: 1\n\tio_read: 4096\n\tio_write: 12\n/b\t*\t18\n\tio_read: x\n")
	if want := []counters{{"/a", "10.0.0.31/32", "17", 4096, 12}, {"/b", "*", "18", 0, 0}}; !reflect.DeepEqual(stats, want) {
		t.Errorf("counters: %+v", stats)
	}
	if got := parseStats("\tio_read: 1\n"); len(got) != 0 {
		t.Errorf("counters of nothing: %+v", got)
	}
}

func TestIsOf(t *testing.T) {
	for domain, want := range map[string]bool{
		"10.0.0.31/32": true, "10.0.0.0/24,10.0.0.31/32": true, "$10.0.0.31": true,
		"10.0.0.3/32": false, "10.0.0.0/24": false, "*": false, "": false, "110.0.0.31/32": false,
	} {
		if got := isOf(domain, addr1); got != want {
			t.Errorf("%q: %v", domain, got)
		}
	}
}

// What forged handles reach must be the state alone.
func TestOwnFileSystem(t *testing.T) {
	root := &mountinfo.Info{Mountpoint: "/", Root: "/", Major: 8, Minor: 1, Source: "/dev/sda1", FSType: "ext4"}
	own := &mountinfo.Info{Mountpoint: "/state", Root: "/", Major: 8, Minor: 2, Source: "/dev/sda2", FSType: "ext4"}
	as := func(f func(*mountinfo.Info)) *mountinfo.Info {
		m := *own
		f(&m)
		return &m
	}
	for _, c := range []struct {
		name string
		all  []*mountinfo.Info
		ok   bool
	}{
		{"its own", []*mountinfo.Info{root, own}, true},
		{"a directory", []*mountinfo.Info{root}, false},
		{"a part of it", []*mountinfo.Info{root, as(func(m *mountinfo.Info) { m.Root = "/sub" })}, false},
		{"elsewhere, too", []*mountinfo.Info{root, own, as(func(m *mountinfo.Info) { m.Mountpoint = "/other" })}, false},
		{"another subvolume of it", []*mountinfo.Info{root, own, as(func(m *mountinfo.Info) { m.Mountpoint, m.Minor = "/other", 9 })}, false},
		{"overmounted by another", []*mountinfo.Info{root, own, as(func(m *mountinfo.Info) { m.Root, m.Minor, m.Source = "/x", 3, "/dev/sda3" })}, false},
	} {
		if err := ownFileSystem("/state", c.all); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// An export is one line for each address, each once.
func TestClients(t *testing.T) {
	x := &export{Export: nfsexport.Export{Dir: roots + "/b8123456/1", ID: 5, Client: addr1, Awaited: []netip.Addr{addr2, netip.AddrFrom16(addr1.As16()), netip.MustParseAddr("fd00::31"), {}}}}
	want := []line{{path: x.Dir, client: addr1, id: 5}, {path: x.Dir, client: addr2, id: 5}}
	if got := x.lines(); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
}

// TestNote: what a process finds at its first look was before it. Then a client has called
// when bytes moved, and else when its connection last had something from it.
func TestNote(t *testing.T) {
	dir := roots + "/b8123456/1"
	uses := []use{{path: dir, domain: addr1.String() + "/32", live: true}}
	moved := func(start string, read, written uint64) []counters {
		return []counters{{path: dir, domain: addr1.String() + "/32", start: start, read: read, written: written}}
	}
	s := &Server{exports: map[nfsexport.ID]*export{}, seen: newSeen()}
	x := &export{Export: nfsexport.Export{Dir: dir, ID: 5, Client: addr1, Activity: new(nfsexport.Activity)}}
	s.exports[5] = x
	begin := time.Unix(1000, 0)
	for i, c := range []struct {
		name          string
		view          view
		seen          bool
		last          int64 // seconds after begin; -1: it never called
		read, written uint64
	}{
		{"of before", view{stats: moved("a", 100, 100)}, false, -1, 0, 0},
		{"nothing since", view{stats: moved("a", 100, 100), uses: uses}, true, -1, 0, 0},
		{"more", view{stats: moved("a", 130, 100), uses: uses}, true, 2, 30, 0},
		{"quiet", view{stats: moved("a", 130, 100), uses: uses}, true, 2, 30, 0},
		{"counted anew", view{stats: moved("b", 0, 7), uses: uses}, true, 4, 30, 7},
		{"a call that moves nothing", view{stats: moved("b", 0, 7), uses: uses, data: map[netip.Addr]time.Time{addr1: begin.Add(4500 * time.Millisecond)}}, true, 4, 30, 7},
		{"another's", view{uses: []use{{path: dir, domain: addr2.String() + "/32", live: true}}, data: map[netip.Addr]time.Time{addr1: begin.Add(5 * time.Second)}}, false, 4, 30, 7},
		{"refused", view{uses: []use{{path: dir, domain: addr1.String() + "/32"}}, data: map[netip.Addr]time.Time{addr1: begin.Add(6 * time.Second)}}, false, 4, 30, 7},
	} {
		now := begin.Add(time.Duration(i) * time.Second)
		seen := s.note(c.view, now)
		s.seen.looked = true
		last := int64(-1)
		if n := x.Activity.LastCall.Load(); n != 0 {
			last = time.Unix(0, n).Unix() - begin.Unix()
		}
		if len(seen) == 1 != c.seen || last != c.last || x.Activity.BytesRead.Load() != c.read || x.Activity.BytesWritten.Load() != c.written {
			t.Errorf("%s: seen %v, last call %d, %d and %d bytes; want %v, %d, %d and %d", c.name, seen, last,
				x.Activity.BytesRead.Load(), x.Activity.BytesWritten.Load(), c.seen, c.last, c.read, c.written)
		}
	}
}
