#!/usr/bin/env bash
# What bt does, in four commands over the sample pictures, with the bundled checkpoint. Nothing is downloaded.
set -euo pipefail
cd "$(dirname "$0")/.."

export BT_MODEL=tiny BT_INDEX=.demo HF_HUB_OFFLINE=1
rm -rf .demo

show() {
    printf '\n$'
    for word in "$@"; do
        case $word in
            *[!A-Za-z0-9_./=-]*) printf ' "%s"' "$word" ;;
            *) printf ' %s' "$word" ;;
        esac
    done
    printf '\n'
    "$@"
}

query="a cat to the left of a dog"
show bt index sample_data/images
show bt search "$query" -k 5
show bt search "$query" -k 5 --rerank
show bt fill-mask "a <mask> to the left of a dog" --image sample_data/images/scene-0004.jpg
