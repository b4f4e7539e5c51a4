// Package flow holds tests of the whole as its users meet it: the command, the daemon, a site's network, emulated boards.
package flow
