// Package servecmd is "rubus serve", the daemon: its parts and how they are wired.
package servecmd
