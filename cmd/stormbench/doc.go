// Command stormbench has many boards boot at once, and tells what that costs the server.
package main
