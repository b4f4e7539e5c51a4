package control

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"rubus/boot/batch"
	"rubus/config/device"
	"rubus/images/imageref"
)

// LogMessage is the message of every line about a change that was asked for: what,
// and by whom.
const LogMessage = "control"

// Daemon is what the control socket offers. Errors that are an *Error reach
// the caller as they are; others do as KindInternal.
type Daemon interface {
	Status(ctx context.Context) (Status, error)
	// Boards lists all boards that have a device or a state of their own, by serial.
	Boards(ctx context.Context) ([]Board, error)
	Board(ctx context.Context, serial device.Serial) (Board, error)
	// Leases lists who was given an address (mode server), by address.
	Leases(ctx context.Context) ([]Lease, error)
	// Stop cuts a board off; its writes stay.
	Stop(ctx context.Context, serial device.Serial) error
	// ResetPlan says what Reset would delete. It reads whole trees.
	ResetPlan(ctx context.Context, serial device.Serial) (ResetPlan, error)
	// Reset sets a board's writes aside, but for those it is to keep. Unless forced it is refused while the
	// board is up or may be.
	Reset(ctx context.Context, serial device.Serial, o ResetOptions, tell func(Progress)) error
	// Log gives a recorded boot of a board: 0 the latest, -1 the one before it.
	Log(ctx context.Context, serial device.Serial, n int) (BootLog, error)
	States
	Movers
	Rebases
	// Reload reads the configuration anew. yes lets devices be dropped in numbers.
	Reload(ctx context.Context, yes bool) (Reloaded, error)
}

// Board is one board as the daemon sees it.
type Board struct {
	Serial device.Serial `json:"serial"`
	Name   string        `json:"name,omitempty"`
	// Image is what devices.yaml wants, Running the version under the board,
	// Available the one a reset would move it to when that is another.
	Image     imageref.Ref `json:"image,omitzero"`
	Running   imageref.Ref `json:"running,omitzero"`
	Available imageref.Ref `json:"available,omitzero"`
	// Phase is how far its boot is: unseen, dhcp, tftp, mounted, running, good,
	// down, stopped, and whatever a later daemon may say.
	Phase string    `json:"phase"`
	Since time.Time `json:"since,omitzero"`
	// Up is yes, no or unknown; unknown counts as yes.
	Up      string     `json:"up"`
	MAC     device.MAC `json:"mac,omitzero"`
	Address netip.Addr `json:"address,omitzero"`
	// Overlay is persistent or ephemeral.
	Overlay string `json:"overlay,omitempty"`
	Enabled bool   `json:"enabled"`
	// Listed says that devices.yaml has a device for it.
	Listed bool `json:"listed"`
	// Path is what it mounts, Export the id of that.
	Path   string `json:"path,omitempty"`
	Export string `json:"export,omitempty"`
	// Calls, BytesRead and BytesWritten count NFS since the daemon started.
	Calls        uint64 `json:"calls"`
	BytesRead    uint64 `json:"bytes_read"`
	BytesWritten uint64 `json:"bytes_written"`
	// Quota is what its root may have, and has; nil: it has no limit, or is not
	// offered.
	Quota *Quota `json:"quota,omitempty"`
	// NFS has the procedures that were called since the daemon started, the
	// most called one first; only when one board is asked for.
	NFS []Procedure `json:"nfs,omitempty"`
	// RefusedCalls are calls with good handles from a wrong address.
	RefusedCalls uint64 `json:"refused_calls,omitempty"`
	// Boot is its last boot.
	Boot Boot `json:"boot,omitzero"`
	// Move is its last rebase.
	Move *Move `json:"move,omitempty"`
	// Problem is why it is not served, Refusal who was refused in its name.
	Problem string `json:"problem,omitempty"`
	Refusal string `json:"refusal,omitempty"`
}

// Quota is what a root has and may have; a limit of 0 is none.
type Quota struct {
	LimitBytes int64 `json:"limit_bytes,omitempty"`
	LimitFiles int64 `json:"limit_files,omitempty"`
	UsedBytes  int64 `json:"used_bytes"`
	UsedFiles  int64 `json:"used_files"`
	// Way is who counts: kernel (project quotas) or server.
	Way string `json:"way"`
	// Counting says that what was there before is being counted.
	Counting bool `json:"counting,omitempty"`
	// Full says that the board was refused something for want of room.
	Full bool `json:"full,omitempty"`
}

// Boot is the last boot of a board as far as its boot files are concerned.
type Boot struct {
	// ID is the boot's, as its kernel command line has it.
	ID string `json:"id,omitempty"`
	// LastGood says that it got the files of its last good boot, because of Why.
	LastGood bool   `json:"last_good,omitempty"`
	Why      string `json:"why,omitempty"`
	// Kernels and Releases are those of the files that it got.
	Kernels  []string `json:"kernels,omitempty"`
	Releases []string `json:"releases,omitempty"`
	// Reports says that its image has the unit that reports boots, Good when
	// this one was; Failures counts those in a row that were not, with the
	// board's own files.
	Reports  bool      `json:"reports,omitempty"`
	Good     time.Time `json:"good,omitzero"`
	Failures int       `json:"failures,omitempty"`
	Warnings []string  `json:"warnings,omitempty"`
}

// Procedure is what was seen of one NFS procedure of a board. Times are in
// nanoseconds; quantiles are rounded up by at most a quarter.
type Procedure struct {
	Name   string        `json:"name"`
	Calls  uint64        `json:"calls"`
	Errors uint64        `json:"errors"`
	Mean   time.Duration `json:"mean_ns"`
	P50    time.Duration `json:"p50_ns"`
	P90    time.Duration `json:"p90_ns"`
	P99    time.Duration `json:"p99_ns"`
	Worst  time.Duration `json:"worst_ns"`
}

// Sighting is a board that asked to boot and that no device names.
type Sighting struct {
	// Serial is zero from the boot ROM of a Pi 3.
	Serial device.Serial `json:"serial,omitzero"`
	MAC    device.MAC    `json:"mac"`
	// Model is text such as "4B 1.1 1 GiB", MemoryMiB the board's memory and
	// Revision its code in hex; empty when the board did not say.
	Model     string `json:"model,omitempty"`
	MemoryMiB int    `json:"memory_mib,omitempty"`
	Revision  string `json:"revision,omitempty"`
	// Bootloader says in words how old the bootloader is, as far as its request
	// tells; Stage is what asked: pi3-rom, bootcode or eeprom.
	Bootloader string `json:"bootloader,omitempty"`
	Stage      string `json:"stage,omitempty"`
	// Times is how often it asked.
	Times int       `json:"times,omitempty"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
}

// Lease is an address and whom it was given to.
type Lease struct {
	Address netip.Addr `json:"address"`
	// State is bound, released, expired, or conflict: somebody without a lease uses
	// it, and MAC is zero.
	State string     `json:"state"`
	MAC   device.MAC `json:"mac,omitzero"`
	// Until is when it ends, or ended.
	Until time.Time `json:"until"`
	// Host is what the client calls itself, Serial and Name are those of the board
	// that it is.
	Host   string        `json:"host,omitempty"`
	Serial device.Serial `json:"serial,omitzero"`
	Name   string        `json:"name,omitempty"`
}

// Status is the daemon at a glance.
type Status struct {
	// Running is false only in what the command prints without a daemon.
	Running bool      `json:"running"`
	Version string    `json:"version,omitempty"`
	PID     int       `json:"pid,omitempty"`
	Started time.Time `json:"started,omitzero"`
	State   string    `json:"state,omitempty"`
	// Refused is why the configuration on disk is not the one in force; "" when
	// it is. RestartFor lists sections of rubus.yaml that wait for a restart.
	Refused    string   `json:"refused,omitempty"`
	RestartFor []string `json:"restart_for,omitempty"`
	// NoDHCP says why no addresses are given out where rubus.yaml wants it.
	NoDHCP []string `json:"no_dhcp,omitempty"`
	// Warnings are what else is to be known about how boards are served.
	Warnings []string `json:"warnings,omitempty"`
	// Unfinished are batches of boards that stopped before all was done.
	Unfinished []batch.Unfinished `json:"unfinished,omitempty"`
	Boards     []Board            `json:"boards"`
	Unknown    []Sighting         `json:"unknown"`
}

// ResetOptions are how a board is reset.
type ResetOptions struct {
	// Force cuts the board off first when it is up, or may be.
	Force bool `json:"force,omitempty"`
	// Keep are paths: what the board changed at or below one it has afterwards, too.
	Keep []string `json:"keep,omitempty"`
}

// ResetPlan is what a reset would delete.
type ResetPlan struct {
	Serial device.Serial `json:"serial"`
	Up     string        `json:"up"`
	Uppers []Upper       `json:"uppers"`
	// Image is the version the board boots next; zero when there is none.
	Image imageref.Ref `json:"image,omitzero"`
}

// Upper is one set of a board's own writes.
type Upper struct {
	Name string `json:"name"`
	// State is current, old, next or parked.
	State string       `json:"state"`
	Image imageref.Ref `json:"image"`
	Bytes int64        `json:"bytes"`
	Files int64        `json:"files"`
	Made  time.Time    `json:"made,omitzero"`
}

// Reloaded is what a reload changed.
type Reloaded struct {
	Devices int             `json:"devices"`
	Added   []device.Serial `json:"added,omitempty"`
	Removed []device.Serial `json:"removed,omitempty"`
	Changed []device.Serial `json:"changed,omitempty"`
	// RestartFor lists sections of rubus.yaml that wait for a restart.
	RestartFor []string `json:"restart_for,omitempty"`
}

// Kind says what sort of failure an Error is.
type Kind string

// The kinds of failure.
const (
	// KindNotFound: there is no such board.
	KindNotFound Kind = "not-found"
	// KindNothing: the board wrote nothing that it could be done with.
	KindNothing Kind = "nothing"
	// KindRefused: it can be done, but not so, or not now.
	KindRefused Kind = "refused"
	// KindBusy: something else is at it; try again.
	KindBusy Kind = "busy"
	// KindBoots: it was given up because the board began to boot; try again.
	KindBoots Kind = "boots"
	// KindInvalid: the request, or the configuration to load, is wrong.
	KindInvalid Kind = "invalid"
	// KindInternal: everything else.
	KindInternal Kind = "internal"
	// KindNotRunning: no daemon answers. Only a Client makes it.
	KindNotRunning Kind = "not-running"
)

// Error is a failure as it crosses the socket.
type Error struct {
	Kind    Kind     `json:"kind"`
	Message string   `json:"error"`
	Hints   []string `json:"hints,omitempty"`
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// Hint is what to do about it, a line each; package ui prints it.
func (e *Error) Hint() string { return strings.Join(e.Hints, "\n") }

// Errorf makes an Error of a kind.
func Errorf(kind Kind, format string, a ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, a...)}
}

// WithHint adds a hint and returns e.
func (e *Error) WithHint(hint string) *Error {
	e.Hints = append(e.Hints, hint)
	return e
}

// IsKind says that an error came from the control socket with this kind.
func IsKind(err error, k Kind) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Kind == k
}
