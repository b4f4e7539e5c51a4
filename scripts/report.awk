# Turns the output of "go test -json" into lines for people, and counts.
#
# Shown: a package's own lines, the output of failed and skipped tests, and with
# live=1 everything as it comes. The last line of the file named by counts is
# "PASSED FAILED"; what failed tests said goes to the end of the file named by
# told, too, where nothing stands between. A skipped test counts as failed: it means
# that the machine lacks something, and the point of this run is to notice.

function field(name,    at, rest) {
    at = index($0, "\"" name "\":\"")
    if (!at) return ""
    rest = substr($0, at + length(name) + 4)
    match(rest, /^([^"\\]|\\.)*/)
    return text(substr(rest, 1, RLENGTH))
}

# text undoes JSON's escapes. A doubled backslash waits as \001 meanwhile.
function text(s) {
    if (!index(s, "\\")) return s
    gsub(/\\\\/, "\001", s)
    gsub(/\\n/, "\n", s); gsub(/\\t/, "\t", s); gsub(/\\r/, "", s); gsub(/\\"/, "\"", s)
    gsub(/\\u003c/, "<", s); gsub(/\\u003e/, ">", s); gsub(/\\u0026/, "\\&", s)
    gsub(/\\u001b/, "", s); gsub(/\\u[0-9a-f][0-9a-f][0-9a-f][0-9a-f]/, "?", s)
    gsub(/\001/, "\\", s)
    return s
}

# A line that is not JSON comes from go itself: a package that did not build.
!/^\{"/ { print; fflush(); next }

{
    action = field("Action"); test = field("Test"); pkg = field("Package")
    key = pkg SUBSEP test
}
action == "build-output" { printf "%s", field("Output"); fflush() }
action == "output" {
    out = field("Output")
    if (out ~ /^=== (RUN|PAUSE|CONT|NAME)/) next
    if (live) { printf "%s", out; fflush() }
    else if (test == "" && out != "PASS\n" && out !~ /no test files/) { printf "%s", out; fflush() }
    if (test != "") kept[key] = kept[key] out
}
action == "pass" && test != "" { passed++; delete kept[key] }
action == "fail" && test != "" { failed++; failures[pkg]++; show("FAILED") }
action == "skip" && test != "" { failed++; failures[pkg]++; skipped++; show("SKIPPED, which counts as failed") }
# A package can fail with no test failing: a crash, a timeout, no build.
action == "fail" && test == "" && !failures[pkg] { failed++; crashed(pkg) }

function show(word) {
    printf "--- %s: %s %s\n%s", word, pkg, test, live ? "" : kept[key]
    fflush()
    again(sprintf("--- %s: %s %s\n%s", word, pkg, test, kept[key]))
    delete kept[key]
}

# again says once more, after all stages, what is lost among the lines of others: of
# much the end.
function again(s) {
    if (length(s) > 20000) s = substr(s, 1, 2000) "[...]\n" substr(s, length(s) - 18000)
    printf "%s", s >>told
}

# crashed shows what the tests that never ended had said.
function crashed(p,    k, parts) {
    printf "--- FAILED: package %s\n", p
    again(sprintf("--- FAILED: package %s\n", p))
    for (k in kept) {
        split(k, parts, SUBSEP)
        if (parts[1] != p) continue
        if (!live) printf "%s", kept[k]
        again(kept[k])
    }
    fflush()
}

END { printf "%d %d\n", passed, failed >counts }
