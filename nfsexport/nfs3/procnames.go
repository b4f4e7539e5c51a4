package nfs3

import "strconv"

// procNames are the procedures as RFC 1813 section 3 names them.
var procNames = [Procs]string{
	"NULL", "GETATTR", "SETATTR", "LOOKUP", "ACCESS", "READLINK", "READ", "WRITE", "CREATE", "MKDIR", "SYMLINK",
	"MKNOD", "REMOVE", "RMDIR", "RENAME", "LINK", "READDIR", "READDIRPLUS", "FSSTAT", "FSINFO", "PATHCONF", "COMMIT",
}

// ProcName is the name of a procedure; for one that does not exist, its number.
func ProcName(proc uint32) string {
	if proc < Procs {
		return procNames[proc]
	}
	return "procedure " + strconv.Itoa(int(proc))
}
