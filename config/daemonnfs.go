package config

import "gopkg.in/yaml.v3"

// backend reads which server is used, and refuses what cannot hold with it.
func (r *reader) backend(f map[string]*yaml.Node, d *NFS) {
	r.flag(f["accept_unauthenticated_handles"], "nfs.accept_unauthenticated_handles", &d.AcceptUnauthenticated)
	n := f["backend"]
	if n == nil {
		return
	}
	d.Backend = choose(r, n, "nfs.backend", d.Backend, map[string]Backend{"user": BackendUser, "kernel": BackendKernel})
	if d.Backend != BackendKernel {
		return
	}
	// A word that is neither true nor false is told of already.
	if accept := f["accept_unauthenticated_handles"]; !d.AcceptUnauthenticated && (accept == nil || accept.Value == "false") {
		r.addf(n, "nfs.backend: the kernel's server cannot authenticate file handles, so root on one board can read and write what is another's: "+
			"say accept_unauthenticated_handles: true if that is accepted")
	}
	for _, key := range []string{"mount_port", "portmap_port", "portmap", "slow_call"} {
		if n := f[key]; n != nil {
			r.addf(n, "nfs.%s: with backend: kernel this is the host's to say (/etc/nfs.conf): leave it out", key)
		}
	}
	if n := f["sync"]; n != nil && n.Value == "false" {
		r.addf(n, "nfs.sync: with backend: kernel written data would be lost too, not only names: leave it out")
	}
}
