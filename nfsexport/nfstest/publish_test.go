package nfstest_test

import (
	"flag"
	"net/netip"
	"path/filepath"
	"testing"

	"rubus/nfsexport"
	"rubus/nfsexport/knfsd"
)

var publishFlag = flag.String("publish", "", "have this machine's NFS server export this directory to 127.0.0.1")

// TestPublish exports the directory of -publish as rubus does with the kernel's
// server. It stays exported: TestKernelServer goes on from there.
func TestPublish(t *testing.T) {
	if *publishFlag == "" {
		return
	}
	if err := knfsd.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, err := knfsd.New(t.Context(), knfsd.Options{Roots: filepath.Dir(*publishFlag)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	err = s.Publish(nfsexport.Export{
		ID: 0x5b1545100badcafe, Name: "5b154510", Path: exportPath, Dir: *publishFlag, State: nfsexport.Ready,
		Client: netip.MustParseAddr("127.0.0.1"), InsecurePorts: true, Activity: new(nfsexport.Activity),
	})
	if err != nil {
		t.Fatal(err)
	}
}
