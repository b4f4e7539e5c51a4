package fakepi

import (
	"fmt"
	"net/netip"
)

// File is a file that was read over TFTP.
type File struct {
	// Name is as it was asked for, prefix and all.
	Name string
	// Data is nil when Options.Discard let it go; Size is its length anyway.
	Data []byte
	Size int64
}

func newFile(name string, data []byte) File { return File{name, data, int64(len(data))} }

// Result is what a board would run, every byte of it read over TFTP.
type Result struct {
	Board Board
	// Address is the board's own, and AddressServer who gave it.
	Address       netip.Prefix
	Router        netip.Addr
	AddressServer netip.Addr
	// Server is where the files came from, and Why firmware went there.
	Server netip.Addr
	Why    string
	// Prefix stands before the names of files: "5b154510/", or "".
	Prefix string

	Kernel    File
	Initramfs File // the files joined, when there are several; empty: none
	DTB       File // empty: config.txt wants none
	// Overlays are the device tree overlays, in the order they are applied.
	Overlays []File
	// Arm64 says that the kernel is started in 64-bit mode.
	Arm64 bool
	// Cmdline is cmdline.txt's first line, as it was fetched.
	Cmdline string

	// Files were asked for, Bytes of them came, in Blocks round trips at least.
	Files         int
	Bytes, Blocks int64

	// Events is all that happened, also when the boot failed.
	Events []Event
}

// StopError says where a board stopped and why.
type StopError struct {
	// Stage is the firmware that gave up, and Step what it was at.
	Stage, Step string
	Err         error
}

// Error implements error.
func (e *StopError) Error() string {
	return fmt.Sprintf("%s stopped %s: %v", e.Stage, e.Step, e.Err)
}

// Unwrap gives the cause.
func (e *StopError) Unwrap() error { return e.Err }
