#!/bin/sh
# Makes what the configuration beside this script looks after, below target/housekeeping in the present folder:
# a cache with old and new files and with links that lead out of it, and a repository with one commit.
set -eu

here=target/housekeeping
rm -rf "$here/cache" "$here/outside" "$here/site"
mkdir -p "$here/cache/pages" "$here/outside"

echo precious > "$here/outside/precious"
for page in 1 2 3; do
    echo "old page $page" > "$here/cache/pages/old-$page.html"
    echo "new page $page" > "$here/cache/pages/new-$page.html"
done
touch -d "40 days ago" "$here"/cache/pages/old-*.html "$here/outside/precious"
ln -s ../outside "$here/cache/outside"
ln -s . "$here/cache/loop"

git init --quiet --initial-branch=main "$here/site"
git -C "$here/site" -c user.name=A -c user.email=a@example.com commit --quiet --allow-empty -m "first"
