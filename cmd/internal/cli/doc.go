// Package cli is what all verbs of the command share: flags, streams, the
// configuration, and the ways to the images and the daemon.
package cli
