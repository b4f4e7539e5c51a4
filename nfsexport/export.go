package nfsexport

import (
	"fmt"
	"net/netip"
	"strconv"
)

// ID is the identity of one export: a random number that is written down with
// the upper it stands for and never used for another. It is part of every NFS
// file handle, because the kernel's handle of an unmodified lower file is the
// same in every overlay over that lower.
type ID uint64

// String is the id as 16 lower-case hex digits.
func (id ID) String() string { return fmt.Sprintf("%016x", uint64(id)) }

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(b []byte) error {
	n, err := strconv.ParseUint(string(b), 16, 64)
	if err != nil || len(b) != 16 {
		return fmt.Errorf("export id %q: want 16 hex digits", b)
	}
	*id = ID(n)
	return nil
}

// State says how far an export is.
type State int

const (
	// Preparing: the export is known but its root is not mounted yet. Calls are
	// answered NFS3ERR_JUKEBOX, on which a Linux client waits and asks again.
	Preparing State = iota
	// Ready: the root is mounted and served.
	Ready
)

// Export is one board's root offered over NFS. It is a value: to change
// anything, publish another Export with the same ID.
type Export struct {
	// ID stands in the file handles.
	ID ID
	// Name is what logs and counters call it: the board's serial.
	Name string
	// Path is what a client gives to MNT, such as "/5b154510".
	Path string
	// Dir is the mount point of the root on this machine. It must be a real
	// directory of the mounted overlay when State is Ready.
	Dir string
	// Upper is the directory that holds the board's own writes below Dir. Its
	// file system decides how a call is brought to disk. "": the way that is
	// right, and slow, on all of them.
	Upper string
	// Index is overlayfs' index of Upper: what tells the copies of golden files from
	// golden files. It is needed to keep Quota; "": all changes count as new copies.
	Index string
	// Layers are the layers of Dir's overlay, the bottom one first. With two or more
	// the server needs them: else a directory that is looked at may be copied into
	// Upper.
	Layers []string
	// Quota bounds what the board may have below Dir, and is where the server counts
	// it. It is shared by all Exports of one ID; nil: nothing is counted.
	Quota *Quota
	// State says whether Dir is mounted.
	State State
	// Client is the one address that may use the export. The zero Addr: nobody.
	Client netip.Addr
	// Awaited are further addresses that its client may come from: for servers
	// that are Unasked. Others look at Client alone.
	Awaited []netip.Addr
	// InsecurePorts lets calls come from ports of 1024 and above. Any user of
	// the client's machine can send those.
	InsecurePorts bool
	// Async lets metadata calls be answered before they are on disk. UNSTABLE
	// writes and COMMIT keep their meaning either way.
	Async bool
	// Init is the fileid of the program that the client's kernel starts as
	// init; its first READ is noted in Activity. 0: unknown.
	Init uint64
	// Activity is where the server notes what it saw. It is shared by all
	// Exports of one ID and is not nil.
	Activity *Activity
}

// Allowed says whether calls from peer may use the export. It does not block
// and does not allocate: it runs on every call.
func (e *Export) Allowed(peer netip.AddrPort) bool {
	return e.Client.IsValid() && peer.Addr().Unmap() == e.Client.Unmap() && (e.InsecurePorts || peer.Port() < 1024)
}
