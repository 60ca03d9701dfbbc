#!/bin/sh
# page_header.sh - docs/examples/sched.html as the C strings of docs/examples/httpd_page.h, on
# standard output:
#   sh tests/examples/page_header.sh >docs/examples/httpd_page.h
# tests/page/run.sh checks that the two agree. An array of short strings, since C11 promises no
# more than 4,095 characters of one.
set -eu
cd "$(dirname "$0")/../.."
echo '/* Made from sched.html by tests/examples/page_header.sh: change that, not this. */'
echo 'static const char *const httpd_page[] = {'
LC_ALL=C awk '{
        gsub(/\\/, "&&"); gsub(/"/, "\\\\&")
        line = $0
        for (last = 0; !last;) { # 100 columns, and no cut within an escape or a UTF-8 character
            last = length(line) <= 88
            n = last ? length(line) : 88
            while (!last && (substr(line, n, 1) == "\\" || substr(line, n + 1, 1) >= "\200" &&
                             substr(line, n + 1, 1) <= "\277")) n--
            printf "    \"%s%s\",\n", substr(line, 1, n), last ? "\\n" : ""
            line = substr(line, n + 1)
        }
    }' docs/examples/sched.html
echo '};'
