#!/bin/sh
# http by nginx: one process, one worker (more: exit 77), the same fixed body; its head has some
# lines more. It wants to make its listening socket itself: the client tries until it is there.
# Method: client.c.
workers=1
while [ $# -gt 1 ]; do
    [ "$1" = --workers ] && workers=$2
    shift
done
nginx=$(PATH=$PATH:/usr/sbin command -v nginx) || exit 2
[ "$workers" = 1 ] || exit 77
dir=build/bench/http/nginx
mkdir -p "$dir" && cd "$dir" && mkdir -p logs || exit 2
cat >nginx.conf <<END
daemon off;
master_process off;
pid logs/nginx.pid;
error_log stderr error;
events { worker_connections 1024; }
http {
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path logs;
    proxy_temp_path logs;
    fastcgi_temp_path logs;
    uwsgi_temp_path logs;
    scgi_temp_path logs;
    server {
        listen 127.0.0.1:$BENCH_PORT;
        default_type text/plain;
        location / { return 200 "Hello, World!\n"; }
    }
}
END
exec "$nginx" -p "$PWD/" -c nginx.conf 3<&-
