package knfsd

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"rubus/nfsexport"
)

const (
	// tick is how often it is looked at what clients do.
	tick = time.Second
	// repairEvery is how often the host's exports are compared with ours, whether or
	// not they are seen to change.
	repairEvery = 10 * time.Second
	// tcpEstablished is a socket's state (linux/tcp_states.h).
	tcpEstablished = 1
)

// seen is what was there at the last look.
type seen struct {
	looked bool
	stats  map[counters]counters // by path, domain and start
	// blind is why the last look failed; "": it did not.
	blind string
}

func newSeen() *seen { return &seen{stats: map[counters]counters{}} }

// Run looks at what clients do, notes it in their exports' Activity, and mends the
// host's exports where somebody took ours away, until ctx ends. It begins with the
// end of what an earlier process exported and nobody published since.
func (s *Server) Run(ctx context.Context) error {
	s.mu.Lock()
	s.started = true
	s.mu.Unlock()
	t := time.NewTicker(tick)
	defer t.Stop()
	var repaired, changed time.Time
	for {
		s.look(ctx, time.Now())
		if now, at := time.Now(), changedAt(); now.Sub(repaired) >= repairEvery || !at.Equal(changed) {
			repaired, changed = now, at
			s.repair(ctx)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// changedAt is when anybody last changed what the host exports; zero: nobody can
// tell. nfs.conf(5) may have another directory for exportfs' table.
func changedAt() time.Time {
	fi, err := os.Stat("/var/lib/nfs/etab")
	if err != nil {
		return time.Time{}
	}
	return fi.ModTime()
}

// view is what the kernel shows.
type view struct {
	uses  []use
	stats []counters
	// data is when anything last came from an address to the NFS port.
	data map[netip.Addr]time.Time
}

func look(now time.Time) (v view, err error) {
	text, err := os.ReadFile(filepath.Join(tableExports, "content"))
	if err != nil {
		return v, fmt.Errorf("reading who uses exports: %w", err)
	}
	v.uses = parseUses(string(text))
	if text, err = os.ReadFile(filepath.Join(nfsdDir, "export_stats")); err != nil {
		return v, fmt.Errorf("reading what is counted of exports: %w", err)
	}
	v.stats = parseStats(string(text))
	ports, err := nfsPorts(nfsdDir)
	if err != nil {
		return v, err
	}
	v.data = map[netip.Addr]time.Time{}
	// An IPv4 client of an IPv6 socket is among those of IPv6.
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		all, err := netlink.SocketDiagTCPInfo(family)
		if family == unix.AF_INET6 && err != nil {
			continue // the kernel may have none
		}
		if err != nil {
			return v, fmt.Errorf("asking for the connections to the NFS port: %w", err)
		}
		for _, c := range all {
			if c.InetDiagMsg == nil || c.TCPInfo == nil || c.InetDiagMsg.State != tcpEstablished || !slices.Contains(ports, c.InetDiagMsg.ID.SourcePort) {
				continue
			}
			a, ok := netip.AddrFromSlice(c.InetDiagMsg.ID.Destination)
			at := now.Add(-time.Duration(c.TCPInfo.Last_data_recv) * time.Millisecond)
			if a = a.Unmap(); ok && at.After(v.data[a]) {
				v.data[a] = at
			}
		}
	}
	return v, nil
}

// sighting is an export that a client uses.
type sighting struct {
	id     nfsexport.ID
	client netip.Addr
}

// look notes what the kernel shows. When it shows nothing, for whatever reason,
// every client counts as at work: nothing may be taken from it.
func (s *Server) look(ctx context.Context, now time.Time) {
	v, err := look(now)
	if ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	was := s.seen.blind
	s.seen.blind = ""
	if err != nil {
		s.seen.blind = err.Error()
		for _, x := range s.exports {
			if len(x.clients()) > 0 {
				x.Activity.LastCall.Store(now.UnixNano())
			}
		}
	}
	var sightings []sighting
	if err == nil {
		sightings = s.note(v, now)
		s.seen.looked = true
	}
	s.mu.Unlock()
	if err != nil && was == "" {
		s.log.Error("nobody can tell what boards do: they count as up", "err", err)
	}
	if s.opt.Seen == nil {
		return
	}
	for _, x := range sightings {
		s.opt.Seen(ctx, x.id, x.client)
	}
}

// note puts what was seen into the exports' Activity. s.mu is held.
func (s *Server) note(v view, now time.Time) (out []sighting) {
	stats := map[counters]counters{}
	for _, c := range v.stats {
		stats[counters{path: c.path, domain: c.domain, start: c.start}] = c
	}
	for id, x := range s.exports {
		for _, a := range x.clients() {
			used := slices.ContainsFunc(v.uses, func(u use) bool { return u.live && u.path == x.Dir && isOf(u.domain, a) })
			read, written := s.moved(stats, x.Dir, a)
			last := v.data[a]
			if read+written > 0 {
				used, last = true, now
			}
			if !used {
				continue
			}
			out = append(out, sighting{id, a})
			x.Activity.BytesRead.Add(read)
			x.Activity.BytesWritten.Add(written)
			if n := last.UnixNano(); !last.IsZero() && n > x.Activity.LastCall.Load() {
				x.Activity.LastCall.Store(n)
				x.Activity.Calls.Add(1)
			}
		}
	}
	s.seen.stats = stats
	return out
}

// moved are the bytes that a client read and wrote since the last look. What was
// there at the first one was before this process.
func (s *Server) moved(stats map[counters]counters, path string, client netip.Addr) (read, written uint64) {
	for key, c := range stats {
		if key.path != path || !isOf(key.domain, client) {
			continue
		}
		old, known := s.seen.stats[key]
		switch {
		case known && c.read >= old.read && c.written >= old.written:
			read, written = read+c.read-old.read, written+c.written-old.written
		case s.seen.looked: // counted from zero: the entry is new
			read, written = read+c.read, written+c.written
		}
	}
	return read, written
}

// initRead notes that somebody read the init of a root.
func (s *Server) initRead(id nfsexport.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.exports[id]; x != nil {
		x.Activity.InitRead.Store(time.Now().UnixNano())
	}
}

// repair exports again what somebody took away, and ends what an earlier process
// exported and nobody published, unless it is in doubt whether it is wanted.
func (s *Server) repair(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	have, err := s.listed(ctx)
	if err != nil {
		if ctx.Err() == nil {
			s.setProblem("the host's exports cannot be read: " + err.Error())
		}
		return
	}
	left := len(s.found)
	if !s.doubt {
		s.found = nil
	}
	want := map[line]bool{}
	missing := 0
	for _, l := range s.all() {
		want[l] = true
		if !have[l] {
			missing++
		}
	}
	s.have = have
	err = errors.Join(s.writeFile(), s.bring(ctx, func(line) bool { return true }, want))
	switch {
	case err != nil && ctx.Err() == nil:
		s.setProblem("the host's exports cannot be mended: " + err.Error())
		return
	case missing > 0:
		s.log.Warn("exports that somebody took away from the host's NFS server are there again", "exports", missing)
	}
	if left > 0 && !s.doubt {
		s.log.Info("exports of an earlier run that no board needs are ended", "exports", left)
	}
	if err := Check(ctx); err != nil {
		s.setProblem(err.Error())
		return
	}
	s.setProblem("")
}

// setProblem keeps what is wrong, and logs it once. s.mu is held.
func (s *Server) setProblem(text string) {
	if text != s.problem && text != "" {
		s.log.Error("boards' roots may not be served", "err", text)
	}
	s.problem = text
}

// Problem is what is wrong with the host's NFS server now; "": nothing.
func (s *Server) Problem() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.problem != "" {
		return s.problem
	}
	return s.seen.blind
}
