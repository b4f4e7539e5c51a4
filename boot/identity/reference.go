package identity

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// maxFile bounds a file that a board is given, in bytes.
const maxFile = 1 << 20

// readReference reads a file of the server that devices.yaml names. Nobody but root may
// decide what boards get, and what is secret nobody else may read.
func readReference(path string, secret bool) ([]byte, error) {
	// A fifo would block, and a device act.
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if why := refuse(&st, secret); why != "" {
		return nil, fmt.Errorf("%s: %s", path, why)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s: it has more than %d bytes", path, maxFile)
	}
	return data, err
}

// refuse says why a file may not be given to boards; "": it may.
func refuse(st *unix.Stat_t, secret bool) string {
	switch mode := st.Mode & 0o777; {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return "it is no regular file"
	case st.Size > maxFile:
		return fmt.Sprintf("it has %d bytes: at most %d are given to a board", st.Size, maxFile)
	case st.Uid != 0:
		return fmt.Sprintf("it belongs to uid %d, who would decide what boards get: chown root it", st.Uid)
	case mode&0o022 != 0:
		return fmt.Sprintf("others may write to it (mode %04o): chmod go-w it", mode)
	case secret && mode&0o007 != 0:
		return fmt.Sprintf("it is secret, and everybody may read it (mode %04o): chmod 600 it", mode)
	}
	return ""
}

// CheckReferences says what is wrong with the files of the server that a wish names, so
// that it can be told before a board boots.
func (w *Wish) CheckReferences() error {
	var errs []error
	check := func(path string, secret bool) []byte {
		data, err := readReference(path, secret)
		errs = append(errs, err)
		return data
	}
	for _, p := range w.HostKeys {
		if data := check(p, true); data != nil {
			if _, err := parseHostKey(data); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", p, err))
			}
		}
	}
	for _, keys := range w.Keys {
		for _, k := range keys {
			if k.File != "" {
				_, bad := keyLines([]Key{k})
				errs = append(errs, bad...)
			}
		}
	}
	for _, f := range w.Files {
		if f.From != "" {
			check(f.From, f.Secret)
		}
	}
	return errors.Join(errs...)
}

// PublicHostKeys are those of the private keys that a wish names, as lines of known_hosts
// have them. What cannot be read is left out: CheckReferences tells it.
func (w *Wish) PublicHostKeys() (out []string) {
	for _, p := range w.HostKeys {
		data, err := readReference(p, true)
		if err != nil {
			continue
		}
		if k, err := parseHostKey(data); err == nil {
			out = append(out, k.knownLine())
		}
	}
	return out
}

// keyLines are the lines of authorized_keys that a wish gives a user.
func keyLines(keys []Key) (lines []string, errs []error) {
	for _, k := range keys {
		text := k.Line
		if k.File != "" {
			data, err := readReference(k.File, false)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			text = string(data)
		}
		n := 0
		for line := range strings.Lines(text) {
			n++
			if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			// Someone may have named a private key.
			if _, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line)); err != nil {
				errs = append(errs, fmt.Errorf("%s: line %d is no public key", k.File, n))
				continue
			}
			lines = append(lines, line)
		}
	}
	return lines, errs
}
