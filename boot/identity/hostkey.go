package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// rsaBits is what ssh-keygen makes by default since OpenSSH 8.
const rsaBits = 3072

// The kinds of host keys, in sshd's words. Every ssh since 2014 takes the first two, and
// they are made in no time; to make an rsa key takes a second of a board's boot.
const (
	kindEd25519 = "ed25519"
	kindECDSA   = "ecdsa"
	kindRSA     = "rsa"
)

func kinds() []string { return []string{kindEd25519, kindECDSA, kindRSA} }

// isHostKey says whether a path is that of a host key, or of its public half.
func isHostKey(path string) bool {
	return slices.ContainsFunc(kinds(), func(kind string) bool { return strings.TrimSuffix(path, ".pub") == keyPath(kind) })
}

// hostKey is a private key of a board's sshd.
type hostKey struct {
	kind    string
	private []byte // as its file holds it
	public  ssh.PublicKey
}

func keyPath(kind string) string { return "/etc/ssh/ssh_host_" + kind + "_key" }

// publicLine is what the file with the public key holds.
func (k *hostKey) publicLine(comment string) []byte {
	line := bytes.TrimSuffix(ssh.MarshalAuthorizedKey(k.public), []byte("\n"))
	return append(line, " "+comment+"\n"...)
}

// makeHostKey makes a key of a kind.
func makeHostKey(kind string) (*hostKey, error) {
	var private crypto.PrivateKey
	var err error
	switch kind {
	case kindRSA:
		private, err = rsa.GenerateKey(rand.Reader, rsaBits)
	case kindECDSA:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case kindEd25519:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		err = errors.New("unknown kind")
	}
	if err != nil {
		return nil, fmt.Errorf("making an ssh host key (%s): %w", kind, err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		return nil, fmt.Errorf("making an ssh host key (%s): %w", kind, err)
	}
	return parseHostKey(pem.EncodeToMemory(block))
}

// parseHostKey reads the file of a private key, which must have no passphrase.
func parseHostKey(data []byte) (*hostKey, error) {
	signer, err := ssh.ParsePrivateKey(data)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		return nil, errors.New("it is a key with a passphrase, which nobody could type in")
	}
	if err != nil {
		return nil, fmt.Errorf("it is no private key of ssh: %w", err)
	}
	k := &hostKey{private: data, public: signer.PublicKey()}
	switch t := k.public.Type(); t {
	case ssh.KeyAlgoRSA:
		k.kind = kindRSA
	case ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521:
		k.kind = kindECDSA
	case ssh.KeyAlgoED25519:
		k.kind = kindEd25519
	default:
		return nil, fmt.Errorf("a key of type %s is none for a host", t)
	}
	return k, nil
}
