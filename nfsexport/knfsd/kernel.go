package knfsd

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"rubus/nfsexport"
)

// The kernel's tables of exports (Documentation/filesystems/nfs/rpc-cache.rst):
// what a client of a domain may use, and what an fsid stands for.
const (
	tableExports = "/proc/net/rpc/nfsd.export"
	tableHandles = "/proc/net/rpc/nfsd.fh"
	// nfsdDir is the file system of nfsd's own files.
	nfsdDir = "/proc/fs/nfsd"
)

// use is a client that the kernel has let use an export.
type use struct {
	path, domain string
	// live is false of one that is over, and of a refusal; the kernel may hold the
	// root for it all the same.
	live bool
}

// parseUses reads the table of exports.
func parseUses(text string) (out []use) {
	for line := range strings.Lines(text) {
		rest, dead := strings.CutPrefix(line, "# ")
		path, rest, ok := strings.Cut(rest, "\t")
		domain, _, open := strings.Cut(rest, "(")
		if ok && open && strings.HasPrefix(path, "/") {
			out = append(out, use{path, strings.TrimSpace(domain), !dead})
		}
	}
	return out
}

// isOf says whether a domain, which names all clients of exports(5) that an
// address is one of, is that of an address. mountd calls it "$ADDRESS" when names
// get too long.
func isOf(domain string, a netip.Addr) bool {
	want := line{client: a}.clientName()
	for name := range strings.SplitSeq(domain, ",") {
		if name == want || name == "$"+a.String() {
			return true
		}
	}
	return false
}

// counters are what nfsd counts of an export and one domain.
type counters struct {
	path, domain, start string
	read, written       uint64
}

// parseStats reads nfsd's export_stats: a line for an export, its figures below it.
func parseStats(text string) (out []counters) {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) == 3 && strings.HasPrefix(f[0], "/") {
			out = append(out, counters{path: f[0], domain: f[1], start: f[2]})
			continue
		}
		key, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
		n, err := strconv.ParseUint(value, 10, 64)
		if !ok || err != nil || len(out) == 0 {
			continue
		}
		switch last := &out[len(out)-1]; key {
		case "io_read":
			last.read = n
		case "io_write":
			last.written = n
		}
	}
	return out
}

// question is an fsid that the kernel waits to hear the export of.
type question struct{ domain, fsid string }

// parseQuestions reads those of 16 bytes from the table of handles.
func parseQuestions(text string) (out []question) {
	const typeUUID16 = "6" // FSID_UUID16 of the kernel's nfsfh.h
	for line := range strings.Lines(text) {
		rest, open := strings.CutPrefix(line, "# ")
		f := strings.Fields(rest)
		if !open || len(f) != 3 || f[1] != typeUUID16 {
			continue
		}
		b, err := hex.DecodeString(strings.TrimPrefix(f[2], "0x"))
		if err != nil || len(b) != 16 {
			continue
		}
		// It prints words, of the machine's own order.
		for i := 0; i < 16; i += 4 {
			binary.NativeEndian.PutUint32(b[i:], binary.BigEndian.Uint32(b[i:]))
		}
		out = append(out, question{f[0], hex.EncodeToString(b)})
	}
	return out
}

// answerFor is how long the kernel keeps an answer; rpc.mountd's are as long.
const answerFor = 30 * time.Minute

// answer tells the kernel what an export's fsid stands for, where it waits to
// hear that: mountd, which would not say while the root was not mounted, is not
// asked again for two minutes. Clients that wait go on when they repeat their calls.
func answer(id nfsexport.ID, path string, clients []netip.Addr, now time.Time) error {
	text, err := os.ReadFile(filepath.Join(tableHandles, "content"))
	if err != nil {
		return err
	}
	for _, q := range parseQuestions(string(text)) {
		for _, a := range clients {
			if q.fsid != fsid(id) || !isOf(q.domain, a) {
				continue
			}
			said := fmt.Sprintf("%s 6 \\x%s %d %s\n", q.domain, q.fsid, now.Add(answerFor).Unix(), path)
			if err := os.WriteFile(filepath.Join(tableHandles, "channel"), []byte(said), 0); err != nil {
				return fmt.Errorf("telling the kernel what %s is: %w", path, err)
			}
			break
		}
	}
	return nil
}
