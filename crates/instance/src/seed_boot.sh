#!/bin/sh
# Written at each boot by the vendor data of the compute node: the operator's script, whose failure counts for nothing, then
# the user's. Both are asked for anew at each boot.
mdata=/native/usr/sbin/mdata-get
dir=/var/lib/triton
mkdir -p "$dir" /var/db /var/log
umask 077

# A key that is there replaces the file, one that is not removes it, and a service that does not answer leaves it alone.
fetch() {
    "$mdata" "$1" > "$2.new" 2> /dev/null
    case $? in
        0) chmod "$3" "$2.new" && mv -f "$2.new" "$2" ;;
        1) rm -f "$2.new" "$2" ;;
        *) rm -f "$2.new" ;;
    esac
}

run() {
    [ -x "$1" ] || return 0
    case $(head -c 2 "$1") in
        '#!') "$1" ;;
        *) if command -v bash > /dev/null; then bash "$1"; else sh "$1"; fi ;;
    esac
}

fetch user-data /var/db/mdata-user-data 400
fetch sdc:operator-script "$dir/operator-script" 700
fetch user-script "$dir/user-script" 700
run "$dir/operator-script" > /var/log/mdata-operator-script.log 2>&1
run "$dir/user-script" > /var/log/mdata-user-script.log 2>&1
