package nfsreplay

import (
	"compress/gzip"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"io"

	"rubus/nfsexport/nfs3"
)

// Recording is what one client asked of its root, without anything of the server:
// file handles are numbers of nodes.
type Recording struct {
	// Nodes are the files that handles were used of; the first is the root.
	Nodes []Node
	// Creds are the credentials of calls (AUTH_SYS without the machine's name).
	Creds []Cred
	Calls []Call
}

// Node is a file by the name that it was first known by.
type Node struct {
	Parent int
	Name   string
}

// Cred is who makes a call.
type Cred struct {
	UID, GID uint32
	Groups   []uint32
}

// Call is one call.
type Call struct {
	// Await are the calls whose answers the client had when it made this one, and
	// not yet when it made the one before. What is not awaited was in flight.
	Await []int
	Proc  uint32
	Cred  int
	// File is the node of the first argument, and Args what follows the handle: of
	// WRITE without the data, of READDIR and READDIRPLUS without cookie and
	// verifier, which are those of the call From; -1: from the beginning.
	File int
	Args []byte
	From int
	// File2 is the node of a second handle (RENAME, LINK), with Args2 behind it; -1:
	// there is none.
	File2 int
	Args2 []byte
	// Made are the nodes whose handles the answer gave.
	Made []int
	// Status is what was answered.
	Status uint32
}

// Write writes the recording, packed.
func (r *Recording) Write(w io.Writer) error {
	z := gzip.NewWriter(w)
	if err := gob.NewEncoder(z).Encode(r); err != nil {
		return fmt.Errorf("writing a recording: %w", err)
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("writing a recording: %w", err)
	}
	return nil
}

// Read reads what Write has written.
func Read(in io.Reader) (*Recording, error) {
	z, err := gzip.NewReader(in)
	if err != nil {
		return nil, fmt.Errorf("reading a recording: %w", err)
	}
	var r Recording
	if err := gob.NewDecoder(z).Decode(&r); err != nil {
		return nil, fmt.Errorf("reading a recording: %w", err)
	}
	return &r, r.check()
}

// writeArgs is what WRITE has between handle and data: offset, count, stable.
const writeArgs = 8 + 4 + 4

var errRecording = errors.New("the recording is none")

// check makes sure that all that is named is there, and comes before it is used.
func (r *Recording) check() error {
	node := func(n int) bool { return n >= 0 && n < len(r.Nodes) }
	if len(r.Nodes) > maxCalls || len(r.Calls) > maxCalls {
		return fmt.Errorf("%w: %d calls of %d files", errRecording, len(r.Calls), len(r.Nodes))
	}
	for i, n := range r.Nodes {
		if i > 0 && (n.Parent < 0 || n.Parent >= len(r.Nodes)) {
			return fmt.Errorf("%w: node %d lies nowhere", errRecording, i)
		}
	}
	for i, c := range r.Calls {
		ok := c.Proc > nfs3.ProcNull && c.Proc < nfs3.Procs && c.Cred >= 0 && c.Cred < len(r.Creds) && node(c.File) &&
			(c.File2 == -1 || node(c.File2)) && c.From < i
		if c.Proc == nfs3.ProcWrite {
			ok = ok && len(c.Args) == writeArgs && binary.BigEndian.Uint32(c.Args[8:]) <= nfs3.MaxIO
		}
		for _, a := range c.Await {
			ok = ok && a >= 0 && a < i
		}
		for _, m := range c.Made {
			ok = ok && node(m)
		}
		if !ok {
			return fmt.Errorf("%w: call %d names what is not there", errRecording, i)
		}
	}
	return nil
}
