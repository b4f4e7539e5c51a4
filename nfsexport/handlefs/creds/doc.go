// Package creds has what a caller may do judged as the caller's: by the kernel, on a thread
// with the caller's credentials, or by the mode bits.
package creds
