package nfstest

import (
	"encoding/binary"
	"errors"
	"os/exec"
	"runtime"
	"syscall"
)

// program is a whole program for Linux: its exit code is the low 8 bits of its
// effective user id. It is made here, so that no file of a machine has to be
// there, and no interpreter or library is read beside it.
func program() []byte {
	const head, entry = 64 + 56, 0x400000 // ELF and program header; where it is loaded
	var code []byte
	machine := uint16(0)
	switch runtime.GOARCH {
	case "amd64":
		machine = 62 // EM_X86_64
		code = []byte{
			0xb8, 107, 0, 0, 0, 0x0f, 0x05, // mov $geteuid, %eax; syscall
			0x89, 0xc7, // mov %eax, %edi
			0xb8, 60, 0, 0, 0, 0x0f, 0x05, // mov $exit, %eax; syscall
		}
	case "arm64":
		machine = 183 // EM_AARCH64
		for _, op := range []uint32{
			0xd2800008 | 175<<5, 0xd4000001, // mov x8, #geteuid; svc #0
			0xd2800008 | 93<<5, 0xd4000001, // mov x8, #exit; svc #0
		} {
			code = binary.LittleEndian.AppendUint32(code, op)
		}
	default:
		panic("no program for " + runtime.GOARCH)
	}
	le := binary.LittleEndian
	b := []byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	b = le.AppendUint16(b, 2) // ET_EXEC
	b = le.AppendUint16(b, machine)
	b = le.AppendUint32(b, 1)
	for _, v := range []uint64{entry + head, 64, 0} { // entry, program headers, no sections
		b = le.AppendUint64(b, v)
	}
	b = le.AppendUint32(b, 0)
	for _, v := range []uint16{64, 56, 1, 64, 0, 0} {
		b = le.AppendUint16(b, v)
	}
	b = le.AppendUint32(b, 1) // PT_LOAD
	b = le.AppendUint32(b, 5) // readable, executable
	size := uint64(head + len(code))
	for _, v := range []uint64{0, entry, entry, size, size, 0x10000} {
		b = le.AppendUint64(b, v)
	}
	return append(b, code...)
}

// execute runs the program at path as a user, in no group but one, and gives
// its exit code.
func execute(path string, uid, gid uint32) (int, error) {
	cmd := exec.Command(path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}
