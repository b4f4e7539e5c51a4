// Package editor runs a command in the root that a version shows, and seals what it wrote as the next version.
//
// The command sees an overlay of the version's layers in namespaces of its own: mounts,
// processes, IPC and host name. What it starts ends with it, and so do the mounts,
// however this program ends. It is root with the capabilities that container
// engines leave, and reaches the network, as package managers must. Programs of
// another machine run through what the host registered with binfmt_misc.
package editor
