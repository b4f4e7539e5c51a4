package portmap

import (
	"context"

	"rubus/nfsexport/sunrpc"
	"rubus/nfsexport/xdr"
)

// The program's numbers (RFC 1833 section 3.1).
const (
	Number  = 100000
	Version = 2
	// Port is where the world looks for it, by TCP and UDP.
	Port = 111
)

// The procedures (RFC 1833 section 3.2).
const (
	procNull = iota
	procSet
	procUnset
	procGetPort
	procDump
	procCallIt
)

// Protocol is a transport, by its number in IP.
type Protocol uint32

// The transports.
const (
	TCP Protocol = 6
	UDP Protocol = 17
)

// Mapping says at which port a version of a program is served.
type Mapping struct {
	Program, Version uint32
	Protocol         Protocol
	Port             uint16
}

// Program answers where the given programs are. It implements sunrpc.Program.
// The list is fixed: nobody can register at it, and it calls nobody on behalf
// of others (CALLIT).
type Program struct {
	list []Mapping
}

// New makes the program that knows list.
func New(list []Mapping) *Program { return &Program{append([]Mapping(nil), list...)} }

// Number implements sunrpc.Program.
func (p *Program) Number() uint32 { return Number }

// Versions implements sunrpc.Program. Clients that ask for 3 or 4 first
// (rpcbind) are told to come with 2.
func (p *Program) Versions() (low, high uint32) { return Version, Version }

// Plan implements sunrpc.Program.
func (p *Program) Plan(*sunrpc.Call) sunrpc.Plan { return sunrpc.Plan{} }

// Serve implements sunrpc.Program. It does not block.
func (p *Program) Serve(_ context.Context, c *sunrpc.Call, w *xdr.Writer) sunrpc.Status {
	r := &c.Args
	switch c.Procedure {
	case procNull:
	case procSet, procUnset, procGetPort:
		want := Mapping{Program: r.Uint32(), Version: r.Uint32(), Protocol: Protocol(r.Uint32())}
		r.Uint32() // the port, which GETPORT ignores
		if !r.OK() {
			return sunrpc.GarbageArgs
		}
		if c.Procedure == procGetPort {
			c.Result = uint32(p.port(want))
			w.Uint32(c.Result)
		} else {
			w.Bool(false) // SET and UNSET: refused
		}
	case procDump:
		for _, m := range p.list {
			w.Bool(true)
			w.Uint32(m.Program)
			w.Uint32(m.Version)
			w.Uint32(uint32(m.Protocol))
			w.Uint32(uint32(m.Port))
		}
		w.Bool(false)
	default: // CALLIT too
		return sunrpc.ProcUnavail
	}
	return sunrpc.Success
}

// port finds a program's port; 0: none. A version that is not there is looked
// for at the program's port, where the client hears which versions there are.
func (p *Program) port(want Mapping) uint16 {
	var other uint16
	for _, m := range p.list {
		if m.Program != want.Program || m.Protocol != want.Protocol {
			continue
		}
		if m.Version == want.Version {
			return m.Port
		}
		other = m.Port
	}
	return other
}
