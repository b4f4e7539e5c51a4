package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// killedFiles are the verbs that change devices.yaml, a board's identity, or make a file.
func killedFiles() map[string]killed {
	device := func(args ...string) killed {
		c := killed{
			args: append([]string{"device"}, args...),
			before: func(w *killedWorld) {
				w.put("devices.yaml", twoDevices)
				w.put("was.yaml", twoDevices)
				w.put("then.yaml", twoDevices)
				// What it is to become: the verb itself, not killed.
				w.rubus(append([]string{"--devices", w.at("then.yaml"), "device"}, args...)...)
			},
			after: func(w *killedWorld, again bool) {
				is, was, then := w.read("devices.yaml"), w.read("was.yaml"), w.read("then.yaml")
				if is != then && (again || is != was) || was == then {
					w.t.Errorf("devices.yaml is\n%s", is)
				}
				w.rubus("check")
			},
		}
		c.done = map[string]string{"add": "is there already", "remove": "no device"}[args[0]]
		return c
	}
	return map[string]killed{
		"add":     device("add", "b8123456", "--image", "lab"),
		"set":     device("set", killedBoard, "name=bench-01", "overlay=ephemeral"),
		"remove":  device("remove", "00000002"),
		"disable": device("disable", killedBoard),
		"enable":  device("enable", "00000002"),
		"rekey": {
			args: []string{"device", "rekey", killedBoard, "--yes"},
			before: func(w *killedWorld) {
				w.run("mkdir", w.at("state/devices/"+killedBoard+"/identity"))
				for _, kind := range hostKeyKinds() {
					w.run("ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", w.at(hostKeyOf(kind)))
					w.run("cp", w.at(hostKeyOf(kind)), w.at("old-"+kind))
				}
			},
			after: func(w *killedWorld, again bool) {
				// It is read here as the verbs that follow read it: they finish what was begun.
				w.rubusOr("there is no terminal to ask on", "state", "device", "rekey", killedBoard)
				var isNew []bool
				for _, kind := range hostKeyKinds() {
					w.run("ssh-keygen", "-y", "-P", "", "-f", w.at(hostKeyOf(kind))) // it is whole
					isNew = append(isNew, w.read(hostKeyOf(kind)) != w.read("old-"+kind))
				}
				if len(slices.Compact(isNew)) != 1 || again && !isNew[0] {
					w.t.Errorf("new keys: %v", isNew)
				}
			},
		},
		"sdcard": {
			args: []string{"sdcard", "--model", "3b", "--bootcode", "--image", "fw", "-o", "DIR/out/card.img", "--force"},
			before: func(w *killedWorld) {
				w.put("fw/boot/firmware/bootcode.bin", "bootcode")
				w.rubus("image", "import", "fw", w.at("fw"))
				w.put("out/card.img", "old")
			},
			after: func(w *killedWorld, again bool) {
				fi, err := os.Stat(w.at("out/card.img"))
				if err != nil {
					w.t.Fatal(err)
				}
				if fi.Size() == int64(len("old")) && !again {
					return
				}
				if out := w.run("mdir", "-b", "-i", w.at("out/card.img")+"@@1M", "::"); !strings.Contains(out, "bootcode.bin") {
					w.t.Errorf("the card has %s", out)
				}
			},
		},
	}
}

const twoDevices = `version: 1
devices:
  # the first
  - {serial: 5b154510, image: lab}
  - {serial: "00000002", image: lab, enabled: false}
`

func hostKeyKinds() []string { return []string{"ed25519", "ecdsa", "rsa"} }

func hostKeyOf(kind string) string {
	return fmt.Sprintf("state/devices/%s/identity/ssh_host_%s_key", killedBoard, kind)
}
