// Package gate lets calls in, until somebody shuts it and waits for those inside.
package gate
