package keycmd

import (
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"

	"rubus/config/device"
)

// HostKey is a public host key of a board, as --json prints it.
type HostKey struct {
	Type        string `json:"type"`
	Fingerprint string `json:"fingerprint"`
	// Public is the key as known_hosts has it, without a name.
	Public string `json:"public"`
}

// HostKeys are public keys of a board, of lines of known_hosts.
func HostKeys(serial device.Serial, lines []string) ([]HostKey, error) {
	out := []HostKey{}
	for _, line := range lines {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			return nil, fmt.Errorf("a host key of board %s: %w", serial, err)
		}
		out = append(out, HostKey{key.Type(), ssh.FingerprintSHA256(key), line})
	}
	return out, nil
}

// String is the fingerprint with the kind of key.
func (k HostKey) String() string { return k.Fingerprint + " " + strings.TrimPrefix(k.Type, "ssh-") }
