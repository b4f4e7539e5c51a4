package main

import (
	"os"
	"path/filepath"
	"strings"
)

// killedState are the verbs that change images and what boards wrote.
func killedState() map[string]killed {
	return map[string]killed{
		"commit": {args: []string{"device", "commit", killedBoard, "lab"}, after: func(w *killedWorld, again bool) {
			w.has(again, w.versions(), "lab@1, lab is 1", "lab@1 lab@2, lab is 1", "lab@1 lab@2 lab@3, lab is 1")
		}},
		"promote": {args: []string{"device", "promote", killedBoard, "lab"}, after: func(w *killedWorld, again bool) {
			w.has(again, w.versions(), "lab@1, lab is 1", "lab@1 lab@2, lab is 2", "lab@1 lab@2 lab@3, lab is 3")
		}},
		"rules": {
			args: []string{"image", "lint", "lab@2", "--apply", "--tag"},
			before: func(w *killedWorld) {
				w.put("root/etc/os-release", "ID=debian\nVERSION_CODENAME=bookworm\n")
				w.put("root/usr/lib/systemd/systemd", "")
				w.rubus("image", "import", "lab", w.at("root"), "--no-rules")
			},
			after: func(w *killedWorld, again bool) {
				w.has(again, w.versions(), "lab@1 lab@2, lab is 2", "lab@1 lab@2 lab@3, lab is 3", "lab@1 lab@2 lab@3 lab@4, lab is 4")
			},
		},
		"layers": {
			args: []string{"image", "import", "lab", "oci:DIR/oci"}, state: "new",
			before: func(w *killedWorld) {
				w.rubus("device", "commit", killedBoard, "lab")
				w.rubus("image", "export", "lab@2", "oci:"+w.at("oci"), "--platform", "linux/arm64")
			},
			after: func(w *killedWorld, again bool) {
				w.has(again, w.versionsIn("new"), ", lab is 0", "lab@1, lab is 1", "lab@1 lab@2, lab is 2")
			},
		},
		"backup": {args: []string{"backup", "--to", "DIR/nas", "--images"}, after: func(w *killedWorld, again bool) {
			files, err := filepath.Glob(w.at("nas/rubus-*.tar"))
			if err != nil || again && len(files) == 0 || !again && len(files) > 1 {
				w.t.Errorf("backups %q, %v", files, err)
			}
			if len(files) > 0 { // all that have a name are whole
				w.rubusIn("elsewhere", "restore", w.at("nas"), "--dry-run")
			}
		}},
		"increment": {
			args: []string{"backup", "--to", "DIR/nas", "--images", "--keep", "1", "--full-every", "1"},
			before: func(w *killedWorld) {
				w.rubus("backup", "--to", w.at("nas"), "--images")
				w.put("state/devices/"+killedBoard+"/uppers/0123456789abcdef.1/upper/etc/more", "more")
			},
			after: func(w *killedWorld, again bool) {
				files, err := filepath.Glob(w.at("nas/rubus-*.tar"))
				if err != nil || len(files) == 0 || again && len(files) != 1 {
					w.t.Errorf("backups %q, %v", files, err)
				}
				w.rubusIn("elsewhere", "restore", w.at("nas"), "--dry-run")
			},
		},
		"restore": {
			args: []string{"restore", "DIR/nas", "--yes", "--with-config"}, state: "new",
			before: func(w *killedWorld) {
				w.rubus("backup", "--to", w.at("nas"), "--images")
				w.put("devices.yaml", "version: 1\n")
			},
			after: func(w *killedWorld, again bool) {
				board := "new/devices/" + killedBoard
				if _, err := os.Stat(w.at(board)); again && err != nil {
					w.t.Error(err)
				} else if err == nil {
					_, err := os.Stat(w.at(board + "/device.json"))
					found, _ := filepath.Glob(w.at(board + "/uppers/*/upper/etc/*"))
					if err != nil || len(found) != 7 {
						w.t.Errorf("half a board: %q, %v", found, err)
					}
				}
				text, err := os.ReadFile(w.at("devices.yaml"))
				if isNew := strings.Contains(string(text), killedBoard); err != nil || !isNew && string(text) != "version: 1\n" || again && !isNew {
					w.t.Errorf("devices.yaml is %q, %v", text, err)
				}
			},
		},
	}
}
