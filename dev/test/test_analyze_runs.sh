#!/usr/bin/env bash
# ./analyze on small runs: what it writes and whether its numbers agree with the trainer's, how it handles bad runs, a
# full disk and a missing gnuplot, and its page: that nothing in it is external, and, if there is Chromium, how it
# looks.
# Needs TRAIN_KAT and ANALYZE (default ./train_kat, ./analyze). Prints "N passed, N failed" last.
. "$(dirname "$0")/analyze_test.sh"

run() { # run NAME FLAGS...
    local name=$1
    shift
    "$train" --dim 24 --depth 2 --image-size 16 --batch-size 16 --train-images 96 --test-images 48 --epochs 4 \
        --keep-every 1 --log-every 2 --lr 3e-3 --output "$name" "$@" >"$name.log" 2>&1 ||
        { echo "FAILED: training of $name"; cat "$name.log"; }
}
run kat --model kat-mini-g3b --seed 1 --continue
"$train" --output kat --continue >>kat.log # its config.txt tells of that
run vit --model vit-mini --seed 1
run vit-2 --model vit-mini --seed 2

# value FILE COLUMN: the last of a csv
value() {
    awk -F, -v name="$2" 'NR == 1 { for (i = 1; i <= NF; i++) { at[$i] = i } next }
                          $at[name] != "" { v = $at[name] } END { print v }' "$1"
}

# ---- What is written

whole_svg() { head -c 5 "$1" | grep -q '<?xml' && tail -c 10 "$1" | grep -q '</svg>'; }
is_png() { [ "$(head -c 4 "$1" | tail -c 3)" = PNG ] && tail -c 8 "$1" | head -c 4 | grep -q IEND; }

check "curves of three runs" works "vit-mini         2" curves vit vit-2 kat --output out
check "weights" works "attn.karat.coef" weights kat --output out
check "functions" works "rational" functions kat --output out
check "path" works "mean cosine" path kat --output out
if [ $have_gnuplot = yes ]; then
    for picture in curves weights weights-heads functions-karat functions-rational path; do
        check "$picture.svg is whole" whole_svg out/$picture.svg
        check "$picture.png is one" is_png out/$picture.png
        check "$picture.svg says how it was made" grep -q './analyze' out/$picture.svg
        check "$picture.gp draws it again" eval "gnuplot -e \"format='svg'\" out/$picture.gp | cmp - out/$picture.svg"
    done
else
    echo "SKIPPED, not passed: pictures (no gnuplot)"
fi

# ---- Numbers, beside those of others

mean=$(awk -v a="$(value vit/metrics.csv test_top1)" -v b="$(value vit-2/metrics.csv test_top1)" \
    'BEGIN { printf "%.6f", (a + b) / 2 }')
drawn=$(awk -F, '$1 == "vit-mini" && $2 == "Test accuracy" { m = $5 } END { print m }' out/curves.csv)
loss=$(value out/path.csv test_loss)
check "the mean of two seeds" near "$drawn" "$mean" 1e-3
check "path: the last loss is the run's" near "$loss" "$(value kat/metrics.csv test_loss)" 1e-6
check "path: a row for start and each epoch" test "$(wc -l <out/path.csv)" = 6
check "path: it is 0 from the start there" test "$(awk -F, 'NR == 2 { print $3 }' out/path.csv)" = 0
check "path: and 0 to the end there" test "$(value out/path.csv to_end)" = 0
check "path: the line ends where the path does" near "$(awk -F, '$1 == 1 { print $2 }' out/path-line.csv)" "$loss" 1e-5
check "weights: all of them, as many as the model has" \
    grep -q "^epoch-4,24,all weights,all,all,$(sed -n 's/^parameters \([0-9]*\) .*/\1/p' kat.log)," out/weights.csv
check "functions: the identity is where rational 1 starts" awk -F, '
    $1 == "start" && $4 == 1 { n++; d = $6 - $7; if (d > 1e-5 || d < -1e-5) { exit 1 } }
    END { exit !n }' out/functions-rational.csv
cp -r out again
check "the same numbers on one core" works "mean cosine" path kat --output again --threads 1
check "to the last digit" cmp out/path.csv again/path.csv

# ---- Bad input

mkdir empty unsaved mixed strange nan
cp kat/config.txt kat/metrics.csv unsaved
cp kat/* mixed 2>/dev/null
cp vit/epoch-2.safetensors mixed
cp kat/* strange 2>/dev/null
printf 'my own' >strange/best.safetensors
check "no run there" tells 1 "there is no run nowhere" curves nowhere
check "a file" tells 1 "is a file: give the folder" curves kat/metrics.csv
check "no run in it" tells 1 "no config.txt" weights empty
check "no checkpoint" tells 1 "unsaved has no checkpoint" weights unsaved
check "no such checkpoint" tells 1 "there is no kat/epoch-9.safetensors" weights kat --checkpoints epoch-9
check "a mixture of models" tells 1 "mixed/epoch-2.safetensors is not of the run" path mixed
check "a checkpoint that is none" tells 1 "strange/best.safetensors" weights strange
check "no learned functions" tells 1 "vit has no learned functions" functions vit
check "data that are gone" tells 1 "nowhere" path kat --data nowhere
check "other data" tells 1 "numbers from 0 to 1" weights kat --blocks 2
check "an unknown analysis" tells 2 "unknown analysis guesses" guesses kat
check "an option of another" tells 2 "--blocks is no option of curves" curves kat --blocks 1
check "nothing" tells 2 "./analyze --help tells all"
check "--help" tells 0 "RUN is the folder of a run" --help
check "--help of one" tells 0 "usage: ./analyze path RUN" path --help
check "none of them left a file" test -z "$(find empty unsaved -name '*.csv' ! -name metrics.csv)"

mkdir taken
printf 'mine\n' >taken/curves.csv
check "a stranger's file stays" tells 1 "taken/curves.csv is not of ./analyze" curves kat --output taken
check "as it was" grep -qx mine taken/curves.csv
printf 'mine\n' >taken/path.png
check "a stranger's picture stays" tells 1 "taken/path.png is not of ./analyze" path kat --output taken
check "also as it was" grep -qx mine taken/path.png
cp out/weights-histogram.csv before.csv
full() {
    (ulimit -f 4; "$analyze" weights kat --output out) >says.log 2>&1
    [ $? = 1 ] && grep -q "free some space" says.log
}
check "a full disk" full
check "leaves what was there" cmp before.csv out/weights-histogram.csv
check "and nothing half" test -z "$(find out -name '*.tmp')"
check "two at a time in one folder" eval "exec 9>out/.lock; flock 9; tells 1 'is in use' curves kat --output out"

without_gnuplot() {
    env PATH=/nonexistent "$analyze" "$@" >says.log 2>&1
    [ $? = 1 ] && grep -q "install gnuplot-nox" says.log
}
check "without gnuplot: the package is named" without_gnuplot curves kat --output plain
check "and the numbers are there" test -s plain/curves.csv
check "and no picture" test ! -e plain/curves.png
check "a report without gnuplot" without_gnuplot report kat --grid 5 --products 2 --output plain
check "has its tables" grep -q "mean cosine" plain/report.html

# ---- Watching a run

check "watch, once" works "step 24/24" watch kat --every 0 --output watched
check "ends with a run that is done" works "done" watch kat --every 1 --output watched
check "its page reloads itself" grep -q 'http-equiv="refresh"' watched/watch.html

# ---- The page

check "a report of two runs" works "wrote page/report.html" report kat vit --grid 5 --products 2 --output page
page=page/report.html
count() { grep -oE "$1" $page | wc -l; }
check "the page is whole" grep -q '^</html>' $page
check "nothing in it is from elsewhere" eval "! sed 's/base64,[^\"]*//' $page |
    grep -qE '(https?:|//[a-z]|@import|<script|<link|<iframe)'"
if [ $have_gnuplot = yes ]; then
    check "it has pictures" test "$(count '<svg ')" -gt 20
    check "each has a size and an alternative text" test "$(count '<svg ')" = \
        "$(count '<svg role="img" width="[0-9]+" height="[0-9]+" viewBox="[0-9 ]+" aria-label="[^"]{10,}">')"
    check "images too" test "$(count '<img ')" = \
        "$(count '<img width="[0-9]+" height="[0-9]+" alt="[^"]{10,}" src="data:')"
fi
grep -oE "\bid=['\"][^'\"]+" $page | cut -c5- | sort >ids
grep -oE "href=['\"]#[^'\"]+" $page | cut -d'#' -f2 | sort -u >references
check "no id is there twice" test -z "$(uniq -d ids)"
check "and every reference leads somewhere" test -z "$(comm -23 references ids)"
check "each run has its csv" test -s page/path-kat.csv -a -s page/path-vit.csv

chromium=$(command -v chromium || command -v chromium-browser || command -v google-chrome)
if [ -z "$chromium" ] || [ $have_gnuplot = no ]; then
    echo "SKIPPED, not passed: the page in a browser (no chromium, or no gnuplot)"
    verdict
    exit
fi

# browser WIDTH FILE: the page as the browser has it, once its scripts have run. No name is looked up: the browser's own
# errands do not leave the machine either.
browser() {
    timeout 100 "$chromium" --headless --no-sandbox --disable-gpu --disable-background-networking \
        --disable-component-update --disable-sync --no-first-run --user-data-dir="$work/browser" \
        --host-resolver-rules='MAP * ~NOTFOUND' \
        --window-size="$1,2000" --virtual-time-budget=5000 --dump-dom "file://$work/$2" 2>browser.log
}

# What a browser is asked to find: texts of a picture that overlap, or that stick out of it, a page wider than its
# window, what it has asked for
cat >look.html <<'SCRIPT'
<script>
addEventListener('load', () => {
  const found = [], meets = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
                                      Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3;
  const pictures = [...document.querySelectorAll('svg')];
  for (const picture of pictures) {
    const texts = [...picture.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()])
        .filter(([text, box]) => text.trim() && box.width);
    const whole = picture.getBoundingClientRect(), name = picture.getAttribute('aria-label');
    texts.forEach(([text, box], i) => {
      const out = box.left < whole.left - 1 || box.right > whole.right + 1 || box.top < whole.top - 1 ||
                  box.bottom > whole.bottom + 1;
      if (out) { found.push(name + ': "' + text + '" sticks out'); }
      for (const [other, b] of texts.slice(i + 1)) {
        if (meets(box, b)) { found.push(name + ': "' + text + '" meets "' + other + '"'); }
      }
    });
  }
  for (const request of performance.getEntriesByType('resource')) { found.push('it asks for ' + request.name); }
  if (document.documentElement.scrollWidth > innerWidth) { found.push('the page is wider than its window'); }
  const told = ['pictures ' + pictures.length, 'faults ' + found.length, ...found];
  document.body.innerHTML = '<pre>' + told.join('\n') + '</pre>';
});
</script>
SCRIPT
look() { # look WIDTH: no fault at that width
    cat $page look.html >looked.html
    browser "$1" looked.html >looked.txt
    if grep -q "pictures $(count '<svg ')" looked.txt && grep -q '^faults 0' looked.txt; then return; fi
    sed -n '/pictures/,/pre>/p' looked.txt | head -12
    return 1
}
check "at a desk's width nothing overlaps, and nothing is asked for" look 1280
check "nor on a phone" look 500
sed -e 's|</body>|<img alt=x src=http://127.0.0.1:9/x.png></body>|' \
    -e 's|<text>epoch</text>|<text dy="-20">epoch</text>|' $page | cat - look.html >looked.html
browser 1280 looked.html >looked.txt
check "a page that asks for something is found out" grep -q 'it asks for http://127.0.0.1:9/x.png' looked.txt
check "and what overlaps" grep -q 'meets' looked.txt
verdict
