package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sys/unix"
)

// The one user of the registry.
const (
	registryUser     = "admin"
	registryPassword = "correct-horse-7c1"
)

// registryAt runs Debian's docker-registry until the test ends; it lets registryUser in alone.
// scripts/peer-tools has it, from the network the first time: scripts/test calls it before.
func registryAt(t *testing.T, dir string) (host string) {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(registryPassword), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`version: 0.1
log: {level: info, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %[1]s/data}}
http: {addr: "127.0.0.1:0"}
auth: {htpasswd: {realm: lab, path: %[1]s/htpasswd}}
`, dir)
	for file, text := range map[string]string{"htpasswd": registryUser + ":" + string(hash) + "\n", "config.yml": config} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	scripts := cmp.Or(os.Getenv("RUBUS_SCRIPTS"), "../../scripts")
	tools, err := exec.Command(filepath.Join(scripts, "peer-tools"), "registry").Output()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(filepath.Join(strings.TrimSpace(string(tools)), "usr/bin/docker-registry"), "serve", filepath.Join(dir, "config.yml"))
	said, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = c.Process.Kill(), c.Wait() })
	lines := bufio.NewScanner(said)
	for lines.Scan() {
		if _, at, ok := strings.Cut(lines.Text(), `msg="listening on `); ok {
			go func() { _, _ = io.Copy(io.Discard, said) }() // until its end
			host, _, _ = strings.Cut(at, `"`)
			return host
		}
	}
	t.Fatalf("the registry ended: %v", lines.Err())
	return ""
}

// login writes what "docker login" keeps of a password, and gives the environment that names it.
func login(t *testing.T, w *killedWorld, as, host, password string) string {
	t.Helper()
	auth := base64.StdEncoding.EncodeToString([]byte(registryUser + ":" + password))
	w.put(as+"/config.json", fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, host, auth))
	return "DOCKER_CONFIG=" + w.at(as)
}

// A version goes to a registry that wants a password, and comes back; what is wrong is said, and
// the password nowhere.
func TestRegistry(t *testing.T) {
	dir := inMemory(t)
	host := registryAt(t, dir)
	w := newKilledWorld(t, filepath.Join(dir, "world"))
	w.rubus("device", "promote", killedBoard, "lab")
	right, wrong := login(t, w, "right", host, registryPassword), login(t, w, "wrong", host, "wrong-"+registryPassword)
	w.put("broken/config.json", `{"auths": `)
	at := "docker://" + host + "/pis/"
	foreign(t, host)
	for _, c := range []struct {
		login string
		args  string
		says  string // "": it does what it is asked
	}{
		{"DOCKER_CONFIG=" + w.at("none"), "image export lab " + at + "lab:2 --platform linux/arm64", "wants other credentials, or some (401)\nrubus: hint: \"docker login " + host + "\""},
		{wrong, "image export lab " + at + "lab:2 --platform linux/arm64", "wants other credentials, or some (401)\nrubus: hint: "},
		{right, "image export lab " + at + "lab:2 --platform linux/arm64", ""},
		{"DOCKER_CONFIG=" + w.at("none"), "image import back " + at + "lab:2", "wants other credentials, or some (401)\nrubus: hint: "},
		{wrong, "image import back " + at + "lab:2", "wants other credentials, or some (401)\nrubus: hint: "},
		{"DOCKER_CONFIG=" + w.at("broken"), "image import back " + at + "lab:2", "unexpected EOF"},
		{right, "image import back " + at + "lab:2 --json", ""},
		{right, "image diff lab back", ""},
		{right, "image import back " + at + "lab:9", "has no image pis/lab:9 (404)"},
		{right, "image import back " + at + "none", "has no image pis/none:latest (404)"},
		{right, "image import back " + at + "pc", "linux/amd64"},
		{right, "image import back " + at + "pcs", "not there for a Pi (linux/arm64, linux/arm), only for linux/amd64"},
		{right, "image import back docker://" + registryUser + ":" + registryPassword + "@" + host + "/pis/lab:2", "holds no credentials\nrubus: hint: "},
		{right, "image export lab docker://" + registryUser + ":" + registryPassword + "@" + host + "/pis/lab:2", "holds no credentials\nrubus: hint: "},
		{right, "image list --json", ""},
	} {
		cmd := exec.Command("rubus", strings.Fields(c.args)...)
		cmd.Env = append(w.env("state"), c.login)
		out, err := cmd.CombinedOutput()
		if (err == nil) != (c.says == "") || !bytes.Contains(out, []byte(c.says)) {
			t.Errorf("%s with %s: %v\n%s", c.args, filepath.Base(c.login), err, out)
		}
		if bytes.Contains(out, []byte(registryPassword)) {
			t.Errorf("%s tells the password:\n%s", c.args, out)
		}
	}
	if out := w.rubus("image", "diff", "lab", "back"); out != "" {
		t.Errorf("what came back differs:\n%s", out)
	}
	if out, err := exec.Command("grep", "-rl", registryPassword, w.at("state")).Output(); err == nil {
		t.Errorf("the password is kept in %s", out)
	}
	w.none("state/images/tmp/*")
}

// foreign puts an image for PCs into the registry, and an index that has no other.
func foreign(t *testing.T, host string) {
	t.Helper()
	layer, err := random.Layer(100, "application/vnd.oci.image.layer.v1.tar+gzip")
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	pc := v1.Platform{OS: "linux", Architecture: "amd64"}
	if img, err = mutate.ConfigFile(img, &v1.ConfigFile{OS: pc.OS, Architecture: pc.Architecture, RootFS: rootFS(t, img)}); err != nil {
		t.Fatal(err)
	}
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &pc}})
	auth := remote.WithAuth(&authn.Basic{Username: registryUser, Password: registryPassword})
	for tag, put := range map[string]func(name.Reference) error{
		"pc":  func(r name.Reference) error { return remote.Write(r, img, auth) },
		"pcs": func(r name.Reference) error { return remote.WriteIndex(r, index, auth) },
	} {
		r, err := name.ParseReference(host + "/pis/" + tag)
		if err == nil {
			err = put(r)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func rootFS(t *testing.T, img v1.Image) v1.RootFS {
	t.Helper()
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return c.RootFS
}

// An export to a registry that is killed leaves the tag at the image that it was, or at the whole
// new one; and said again it does what was asked for.
func TestRegistryKilled(t *testing.T) {
	const apart = 9 // of hundreds of writes to the connection
	dir := inMemory(t)
	host := registryAt(t, dir)
	w := newKilledWorld(t, filepath.Join(dir, "world"))
	w.rubus("device", "commit", killedBoard, "lab")
	env := append(w.env("state"), login(t, w, "right", host, registryPassword))
	rubus, err := exec.LookPath("rubus")
	if err != nil {
		t.Fatal(err)
	}
	do := func(args ...string) {
		t.Helper()
		cmd := exec.Command(rubus, args...)
		cmd.Env = env
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
	k := killer{calls: append(changing(), unix.SYS_CONNECT, unix.SYS_WRITE)}
	kills := 0
	for n, cut := 1, true; cut && !t.Failed(); n += apart {
		place := fmt.Sprintf("docker://%s/pis/lab%d:1", host, n)
		do("image", "export", "lab@1", place, "--platform", "linux/arm64")
		export := []string{"image", "export", "lab@2", place, "--platform", "linux/arm64"}
		if cut = k.killedAt(t, n, env, rubus, export...); cut {
			kills++
		}
		for range 2 {
			do("image", "import", "back", place) // each layer is compared with its digest
			do(export...)
		}
		w.none("state/images/tmp/*")
	}
	if kills < 3 {
		t.Errorf("killed %d times alone", kills)
	}
	t.Logf("killed %d times", kills)
	for _, v := range strings.Fields(w.versions()) {
		if strings.HasPrefix(v, "back@") && w.rubus("image", "diff", v, "lab@1") != "" && w.rubus("image", "diff", v, "lab@2") != "" {
			t.Errorf("%s is neither the old nor the new", v)
		}
	}
}
