#!/bin/bash
# The node's configuration, for scripts that source this file (load_sdc_config sets CONFIG_* variables) and for agents that run
# it with -json. Values are texts; nothing of the files is executed.
_triton_config_lines() {
    local file line key value
    for file in /usr/triton/config/generic /usr/triton/config/node.config; do
        [[ -r $file ]] || continue
        while IFS= read -r line || [[ -n $line ]]; do
            line="${line#"${line%%[![:space:]]*}"}"
            [[ $line =~ ^([A-Za-z][A-Za-z0-9_]*)=(.*)$ ]] || continue
            key="${BASH_REMATCH[1]}" value="${BASH_REMATCH[2]}"
            value="${value%"${value##*[![:space:]]}"}"
            case $value in
            \'*\') value="${value:1:${#value}-2}" ;;
            \"*\") value="${value:1:${#value}-2}" ;;
            esac
            printf '%s\0%s\0' "$key" "$value"
        done <"$file"
    done
}
load_sdc_config() {
    local prefix="${1:-CONFIG_}" key value
    while IFS= read -r -d '' key && IFS= read -r -d '' value; do
        printf -v "$prefix$key" '%s' "$value"
    done < <(_triton_config_lines)
}
if [[ ${BASH_SOURCE[0]} == "$0" && ${1:-} == -json ]]; then
    _triton_config_lines | jq -Rs 'split("\u0000")[:-1] | [range(0; length; 2) as $i | {key: .[$i], value: .[$i + 1]}] | from_entries'
fi
