// Package oci takes container images into the store, and gives versions back as such.
//
// An image of the OCI image specification is a stack of tarballs; each becomes a
// layer. It comes from, or goes to, a registry ("docker://HOST/NAME:TAG"), an OCI
// layout ("oci:DIR[:TAG]") or an archive of "docker save" ("docker-archive:FILE").
package oci
