#!/usr/bin/env bash
# The tables of the papers on KAT and KArAt, one command per row: runs what is missing of it, several seeds each,
# continues what was interrupted, and prints our accuracies beside the paper's.
#
#     scripts/reproduce.sh                      every table and row, with our results so far
#     scripts/reproduce.sh TABLE [ROW...]       runs it, and leaves TABLE.md and TABLE.csv
#     scripts/reproduce.sh --check [TABLE]      whether every row is a command, with its parameters beside the paper's
#
#     --scale paper|small      the paper's setting, or the reduced one below, which 2 cores finish
#     --seeds 3                seeds 1 to 3
#     --jobs 1                 runs at a time, each with its share of the cores, or one of the GPUs
#     --data-root datasets     where the data sets are (it says what is missing, and how to make it)
#     --output runs/reproduce  where runs and tables go
#     -- FLAGS                 flags of ./train_kat over the row's, such as -- --epochs 2: kept apart from its runs
#
# After Ctrl-C or kill the same command continues where it was, after a power cut from up to an epoch before. Rows with
# the same flags share their runs. Each row begins with its cost: FLOPs, steps, images per second as measured here,
# hours. ImageNet for 300 epochs is 384 million images: 2.7 EFLOP for Tiny, 38 EFLOP for Base; CIFAR-10 at 224² for 100
# epochs is 5 million, 35 PFLOP for Tiny. Accuracies are those after the last step, on the whole test split, of the
# running mean if a recipe has one. The papers' are from one run each.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

# ----------------------------------------------------------------------------------------------------------------------
# --scale small: every run to the end of its schedule, with the recipe's augmentation, in minutes. These flags follow a
# row's, whose model then only determines attention and MLP. One line per family of tables: its set and its flags.
#
# KArAt's rows are run on the procedural set, whose shapes are anywhere in the image: there softmax is ahead of mixing
# by place only, which small models on CIFAR-10 cannot tell from attention. Without mixup and cutmix: with them it
# depends on the seed when such small models begin to learn (dev/RESULTS.md).

small_set_kat=cifar10
small_kat="--image-size 32 --patch 4 --dim 48 --depth 2 --heads 3
           --epochs 30 --batch-size 128 --grad-accum-steps 1 --lr 1e-3 --min-lr 1e-5 --warmup-epochs 2
           --model-ema-decay 0.999 --eval-every 5"
small_set_karat=procedural
small_steps="--mixup 0 --cutmix 0
             --epochs 30 --batch-size 64 --lr 1e-3 --warmup-epochs 2 --model-ema-decay 0.999 --eval-every 5"
small_karat="--image-size 32 --patch 4 --dim 48 --depth 4 --heads 3 $small_steps"
small_convit="--image-size 32 --patch 4 --dim 48 --depth 4 --heads 4 --local-blocks 2 $small_steps"
small_swin="--image-size 32 --patch 2 --dim 24 --depth 2,2,2 --heads 2,4,8 --window-size 4 $small_steps"

# ----------------------------------------------------------------------------------------------------------------------
# The tables
#
# table NAME SCALES RECIPE DATA "what"
# row NAME "flags" "the paper's top-1, or top-1 / top-5" "its parameters" "remark"
#
# At the small scale only rows of Tiny models from scratch are run. --init-from @TABLE starts from the best weights of
# that table's row with this name and seed, @/FILE from DATA-ROOT/weights/FILE.

timm() { echo "vit_$1_patch16_224.augreg_in21k${2:-}.safetensors"; }

list_tables() {
    local s b g d

    table kat-imagenet "paper small" kat imagenet "KAT on ImageNet-1K"
    row vit-tiny     "--model vit-tiny" 72.7 5.7M
    row vit-small    "--model vit-small" 78.8 22.1M
    row vit-base     "--model vit-base" 79.1 86.6M
    row deit-tiny    "--recipe deit --model vit-tiny" 72.2 5.7M
    row deit-small   "--recipe deit --model vit-small" 79.8 22.1M
    row deit-base    "--recipe deit --model vit-base" 81.8 86.6M
    row kan-tiny     "--model kan-tiny" 64.9 12.8M "quoted there from another project's unfinished runs"
    row kan-small    "--model kan-small" 62.9 50.4M "likewise"
    row kan-base     "--model kan-base" NaN 199.8M "likewise"
    row tiny         "--model kat-tiny" "74.6 / 92.4" 5.7M
    row small        "--model kat-small" 81.2 22.1M
    row base         "--model kat-base" 82.3 86.6M
    row vitft-tiny   "--recipe kat-vitft --model kat-tiny --init-from @/$(timm tiny _ft_in1k)" 75.7 5.7M \
        "its start was fine-tuned on ImageNet-1K already"
    row vitft-small  "--recipe kat-vitft --model kat-small --init-from @/$(timm small)" 82.0 22.1M
    row vitft-base   "--recipe kat-vitft --model kat-base --init-from @/$(timm base)" 82.8 86.6M

    table kat-activations "paper small" kat imagenet "KAT: the activation of ViT-Tiny's MLP, ImageNet-1K"
    row gelu   "--model vit-tiny" 72.7
    row relu   "--model vit-tiny --mlp relu" 72.8
    row silu   "--model vit-tiny --mlp silu" 69.8
    row prelu  "--model vit-tiny --mlp prelu" 73.2
    row pau    "--model vit-tiny --mlp rational" 73.6
    row kat    "--model kat-tiny" 74.6

    table kat-starts "paper small" kat imagenet "KAT-Tiny: how its two rationals start, ImageNet-1K"
    row identity-identity "--model kat-tiny --rational-init2 identity" 69.7
    row swish-swish       "--model kat-tiny --rational-init1 swish" 74.4
    row identity-gelu     "--model kat-tiny --rational-init2 gelu" 74.5
    row identity-swish    "--model kat-tiny" 74.6

    table kat-more "paper small" kat imagenet "KAT-Tiny: what its paper leaves open, ImageNet-1K"
    row kat                 "--model kat-tiny" 74.6
    for g in 1 2 4 16; do row "groups-$g" "--model kat-tiny --rational-groups $g"; done
    row order-3-2           "--model kat-tiny --rational-m 3 --rational-n 2"
    row order-7-6           "--model kat-tiny --rational-m 7 --rational-n 6"
    row form-paper          "--model kat-tiny --rational-form paper"
    row variance-preserving "--model kat-tiny --mlp-init variance-preserving"
    row attention-trunc02   "--model kat-tiny --attn-init trunc02"
    row vit-mimetic         "--model vit-tiny --attn-init mimetic"
    row no-decay            "--model kat-tiny --rational-decay off"
    row rate-tenth          "--model kat-tiny --rational-decay off --rational-lr-scale 0.1"
    row rate-ten            "--model kat-tiny --rational-decay off --rational-lr-scale 10"

    for d in cifar10 cifar100 imagenet; do
        case $d in
        cifar10) table karat-cifar10 "paper small" karat-cifar cifar10 "KArAt on CIFAR-10" ;;
        cifar100) table karat-cifar100 paper karat-cifar cifar100 "KArAt on CIFAR-100" ;;
        imagenet) table karat-imagenet paper karat-imagenet imagenet "KArAt on ImageNet-1K" ;;
        esac
        karat_rows $d
    done

    # What the paper adds to its recipe for its other backbones
    local other="--opt-eps 1e-8 --model-ema-decay 0 --aa rand-m9-mstd0.5-inc1"
    local swin="$other --color-jitter 0.3"
    for d in cifar10:1:cifar imagenet:2:imagenet; do
        s="paper small" b=${d#*:} g=${b%:*}
        [ $g = 1 ] || s=paper
        table "karat-convit-${d%%:*}" "$s" "karat-${d##*:}" "${d%%:*}" "KArAt in ConViT-Tiny's last two blocks, ${d%%:*}"
        row softmax "--model convit-tiny $other" "$(cut -d, -f$g <<<"71.36 / 97.86,57.91 / 81.79")"
        row g3b "--model convit-tiny-g3b $other" "$(cut -d, -f$g <<<"75.57 / 98.61,56.57 / 80.75")"
        row g3u "--model convit-tiny-g3u $other" "$(cut -d, -f$g <<<"74.51 / 98.63,56.51 / 80.93")"
        table "karat-swin-${d%%:*}" "$s" "karat-${d##*:}" "${d%%:*}" "KArAt in Swin-Tiny's windows, ${d%%:*}"
        row softmax "--model swin-tiny $swin" "$(cut -d, -f$g <<<"84.83 / 99.43,76.14 / 92.81")"
        row g3b-literal "--model swin-tiny-g3b --karat-mask literal $swin" \
            "$(cut -d, -f$g <<<"79.34 / 98.81,73.19 / 90.97")" "" "the mask added to the logits, as to softmax's"
        row g3b-region "--model swin-tiny-g3b --karat-mask region $swin" "" "" "sums over a token's own region (ours)"
        row g3u "--model swin-tiny-g3u $swin" "" "" "an operator a stage (ours)"
    done

    table karat-grids "paper small" karat-cifar cifar10 "Fourier-KArAt's grid, CIFAR-10"
    for b in 1b:75.75 3b:76.69 5b:75.85 7b:75.11 9b:74.85 11b:74.52 \
        1u:74.94 3u:75.56 5u:74.71 7u:74.45 9u:73.97 11u:73.58; do
        row "tiny-g${b%:*}" "--model vit-tiny-g${b%:*}" "${b#*:}"
    done
    for b in 1b:79.00 3b:79.78 5b:78.64 11b:77.39; do row "small-g${b%:*}" "--model vit-small-g${b%:*}" "${b#*:}"; done
    for b in 1b:81.81 3b:80.09 5b:79.80 11b:50.47 1u:80.75 3u:81.00 5u:81.17 11u:40.74; do
        row "base-g${b%:*}" "--model vit-base-g${b%:*}" "${b#*:}"
    done

    table karat-ranks "paper small" karat-cifar cifar10 "KArAt's rank, ViT-Tiny + G3B, CIFAR-10"
    row r12 "--model vit-tiny-g3b" 76.69 6.29M
    row r4  "--model vit-tiny-g3b --karat-rank 4" 75.90 "" "the paper counts 17 to 41 thousand more, unexplained"
    row r2  "--model vit-tiny-g3b --karat-rank 2" 74.39 "" "likewise"

    for d in cifar10 cifar100; do
        s="paper small"
        [ $d = cifar10 ] || s=paper
        table karat-bases${d#cifar10} "$s" karat-cifar $d "KArAt's functions, ViT-Tiny, blockwise, ${d/cifar/CIFAR-}"
        for b in fourier:76.69/46.29 rational:69.22/37.93 mexican-hat:69.62/38.92 morlet:70.84/37.88 dog:73.89/44.23 \
            meyer:71.13/41.65 shannon:71.41/39.40; do
            g=${b#*:}
            [ $d = cifar10 ] && g=${g%/*} || g=${g#*/}
            case ${b%:*} in
            fourier) row fourier "--model vit-tiny-g3b" "$g" ;;
            rational) row rational "--model vit-tiny-g3b --basis rational --karat-init-denominator 1" "$g" ;;
            *) row "${b%:*}" "--model vit-tiny-g3b --basis ${b%:*}" "$g" ;;
            esac
        done
    done

    table karat-base-activations "paper small" karat-cifar cifar10 "KArAt's base activation, ViT-Tiny + G3B, CIFAR-10"
    row zero     "--model vit-tiny-g3b" 76.69 6.29M
    row identity "--model vit-tiny-g3b --karat-base identity" 75.90
    row silu     "--model vit-tiny-g3b --karat-base silu" 76.25
    row gelu     "--model vit-tiny-g3b --karat-base gelu" 76.48

    table karat-projections "paper small" karat-cifar cifar10 "projection on the l1 ball, ViT-Tiny + G3B, CIFAR-10"
    row none     "--model vit-tiny-g3b" 76.69 6.29M
    row l1-sigma "--model vit-tiny-g3b --karat-projection l1" 41.99 "" "its section 3 projects the weights"
    row l1-z     "--model vit-tiny-g3b --karat-projection l1 --karat-project z" 41.99 "" "its algorithm 2 projects z"

    table karat-orders "paper small" karat-cifar cifar10 "order of KArAt's operator, ViT-Tiny + G11B, CIFAR-10"
    row phi-w   "--model vit-tiny-g11b --karat-order phi-w" 67.04
    row w-phi   "--model vit-tiny-g11b" 75.41 "" "the paper's table of grids has 74.52 for it"
    row phi-phi "--model vit-tiny-g11b --karat-order phi-phi" 33.09

    table karat-hybrids "paper small" karat-cifar cifar10 \
        "hybrid heads, ViT-Tiny + G11, CIFAR-10 (the paper's numbers are in its table 20)"
    for b in b u; do for g in 1 2; do
        row "softmax-$g-g11$b" "--model vit-tiny-g11$b --softmax-heads $g"
    done; done

    for d in svhn:1 flowers102:2 stl10:3; do
        table "karat-transfer-${d%:*}" paper karat-cifar "${d%:*}" \
            "KArAt: ImageNet-1K's weights fine-tuned on ${d%:*} (the paper does not say how: CIFAR's recipe)"
        for b in base/97.74/92.24/97.26 base-g1b/96.83/89.66/95.30 base-g1u/97.21/89.43/95.78 small/97.48/91.46/96.09 \
            small-g3b/97.04/89.67/95.26 small-g3u/97.11/90.08/95.45 tiny/96.69/84.21/93.20 tiny-g3b/96.37/83.67/93.09 \
            tiny-g3u/96.39/83.70/92.93; do
            row "${b%%/*}" "--model vit-${b%%/*} --init-from @karat-imagenet" "$(cut -d/ -f$((1 + ${d#*:})) <<<"$b")"
        done
    done

    table karat-controls "paper small" karat-cifar cifar10 "is it the learned functions? ViT-Tiny, CIFAR-10 (ours)"
    row softmax         "--model vit-tiny" 72.76 5.53M
    row g3b             "--model vit-tiny-g3b" 76.69 6.29M
    row mixing          "--model vit-tiny --attn mixing" "" "" "N x N weights that never look at the image"
    row softmax-rank    "--model vit-tiny --attn softmax-rank" "" "" "softmax, then a learned map of rank 12"
    row polynomial      "--model vit-tiny --attn polynomial" "" "" "cubes of the logits over sqrt(N)"
    row softmax-impulse "--model vit-tiny --attn-init impulse" "" "" "heads begin by looking one patch aside"
    row softmax-mimetic "--model vit-tiny --attn-init mimetic"
    row softmax-gate    "--model vit-tiny --attn-gate" "" "" "a sigmoid gate on each head's output"
    row g3b-gate        "--model vit-tiny-g3b --attn-gate"
    row sigmoid         "--model vit-tiny --attn sigmoid"
    row relu            "--model vit-tiny --attn relu"
    row linear          "--model vit-tiny --attn linear"
    row g3b-unit        "--model vit-tiny-g3b --karat-init unit" "" "" "starts with the variance of softmax's output"
    row g3b-tenth       "--model vit-tiny-g3b --karat-init-scale 0.1" "" "" "starts with a tenth of the coefficients"
    row g3b-bias        "--model vit-tiny-g3b --karat-bias block"
    row g3b-simplex     "--model vit-tiny-g3b --karat-projection simplex"
    row kat-g3b         "--model kat-tiny-g3b" "" "" "GR-KAN beside KArAt"

    table karat-more "paper small" karat-cifar cifar10 "further functions and full rank, ViT-Tiny, CIFAR-10 (ours)"
    for b in sech bspline chebyshev polynomial; do row $b "--model vit-tiny-g3b --basis $b"; done
    row rational-tenth "--model vit-tiny-g3b --basis rational" "" "" "denominators start at a tenth of N(0,1)"
    row full-rank "--model vit-tiny-g3b --karat-full on"
}

# The main table's rows on one set. Its one column of parameters has 10 classes for Tiny and Base, 1000 for Small.
karat_rows() {
    local name params accuracies column
    case $1 in cifar10) column=1 ;; cifar100) column=2 ;; imagenet) column=3 ;; esac
    while read -r name params accuracies; do
        case $1-$name in cifar10-small* | cifar100-* | imagenet-tiny* | imagenet-base*) params="" ;; esac
        row "$name" "--model vit-$name" "$(cut -d' ' -f$column <<<"$accuracies" | sed 's|/| / |')" "$params"
    done <<'ROWS'
base      85.81M 83.45/99.19 58.07/83.70 72.90/90.56
base-g1b  87.51M 81.81/99.01 55.92/82.04 68.03/86.41
base-g1u  85.95M 80.75/98.76 57.36/82.89 68.83/87.69
small     22.05M 81.08/99.02 53.47/82.52 70.50/89.34
small-g3b 23.58M 79.78/98.70 54.11/81.02 67.77/87.51
small-g3u 22.18M 79.52/98.85 53.86/81.45 67.76/87.60
tiny      5.53M  72.76/98.14 43.53/75.00 59.15/82.07
tiny-g3b  6.29M  76.69/98.57 46.29/77.02 59.11/82.01
tiny-g3u  5.59M  75.56/98.48 46.75/76.81 57.97/81.03
ROWS
}

# name, training images, classes; then how to make it from the files in FOLDER
sets="\
cifar10    50000   10   cifar10 FOLDER DATA-ROOT: data_batch_1.bin to test_batch.bin (the binary version)
cifar100   50000   100  cifar100 FOLDER DATA-ROOT: train.bin and test.bin (the binary version)
imagenet   1281167 1000 imagenet FOLDER DATA-ROOT/imagenet: the archives of ILSVRC2012, or folders train and val
svhn       73257   10   svhn FOLDER DATA-ROOT: train_32x32.mat and test_32x32.mat
flowers102 1020    102  flowers102 FOLDER DATA-ROOT/flowers102: 102flowers.tgz, imagelabels.mat and setid.mat
stl10      5000    10   stl10 FOLDER DATA-ROOT: stl10_binary.tar.gz
procedural 8000    10   -"

set_field() { awk -v name="$1" -v k="$2" '$1 == name { print $k }' <<<"$sets"; }

# ----------------------------------------------------------------------------------------------------------------------
# Rows, by number

table_names=() row_table=() row_name=() row_flags=() row_paper=() row_params=() row_note=() row_recipe=() row_set=()
declare -A table_scales table_title

table() {
    table_names+=("$1")
    table_scales[$1]=$2 table_title[$1]=$5
    new_recipe=$3 new_set=$4
}

row() {
    row_table+=("${table_names[-1]}") row_name+=("$1") row_set+=("$new_set")
    row_paper+=("${3:-}") row_params+=("${4:-}") row_note+=("${5:-}")
    case $2 in
    "--recipe "*) set -- "$1" "${2#--recipe }"; row_recipe+=("${2%% *}") row_flags+=("${2#* }") ;;
    *) row_recipe+=("$new_recipe") row_flags+=("$2") ;;
    esac
}

# Whether a row is run at this $scale
at_scale() { # at_scale ROW
    [[ " ${table_scales[${row_table[$1]}]} " == *" $scale "* ]] || return
    [ "$scale" = paper ] || [[ ${row_flags[$1]} =~ ^--model\ [a-z]+-tiny && ${row_flags[$1]} != *--init-from* ]]
}

in_table() { [ "${row_table[$1]}" = "$2" ] && at_scale "$1"; } # in_table ROW TABLE

# look_at ROW: at this $scale, its data set, $data, and where it is, $at; what the small scale adds, $reduced; its flags
# except data, seed and what was added to the command, $flags; where its runs are, $folder/s1, s2..., named after what
# is run, so that rows with the same flags share them; those that are done, $finished, and how many were begun, $begun
look_at() {
    local recipe=${row_recipe[$1]} list run
    data=${row_set[$1]} reduced=""
    if [ "$scale" = small ]; then
        data=$small_set_kat reduced=$small_kat
        [[ $recipe != karat* ]] || data=$small_set_karat reduced=$small_karat
        [[ ${row_table[$1]} != karat-convit* ]] || reduced=$small_convit
        [[ ${row_table[$1]} != karat-swin* ]] || reduced=$small_swin
    fi
    [ $data = procedural ] && at=$data || at=$data_root/$data
    read -rd "" -a list <<<"--recipe $recipe ${row_flags[$1]} $reduced"
    flags=${list[*]}
    file_name "${row_flags[$1]%% --init-from*}${added:+ $added}"
    folder=$output/$scale/$data/$recipe/${file#model=}
    finished=() begun=0
    for run in "$folder"/s*.command; do
        [ -e "$run" ] || break
        run=${run%.command} begun=$((begun + 1))
        ! is_done "$run" || finished+=("$run")
    done
}

# file_name FLAGS: as a name in $file
file_name() {
    file=${1// --/,} file=${file#--} file=${file// /=} file=${file//\//_}
    [ ${#file} -le 200 ] || file=${file:0:180}-$(cksum <<<"$1" | cut -d' ' -f1)
}

is_missing() { # a run of the current row
    local seed
    for ((seed = 1; seed <= seeds; seed++)); do is_done "$folder/s$seed" || return 0; done
    return 1
}

is_done() { [ -e "$1/metrics.csv" ] && grep -qs '^best top-1' "$1.log"; } # is_done FOLDER/s1

# ----------------------------------------------------------------------------------------------------------------------
# Results of runs

# summary RUN...: of runs of one row, so far as they exist: n|top-1|sd|top-5|sd|loss|sd|top-1 of each|seeds|steps|PFLOP|
# images a second|hours, the last four of one run and without its evaluations
summary() {
    [ $# -gt 0 ] || { echo "0||||||||||||"; return; }
    "$compare" table --format csv --unfinished "$@" | sed -n '2{s/^"[^"]*",//;s/^[^,"]*,//;s/,/|/g;p}' | cut -d'|' -f1-13
}

# "76.12 ± 0.31 (n = 3)" for the current row
ours() {
    local n mean sd rest text=–
    if [ ${#finished[@]} -gt 0 ]; then
        IFS='|' read -r n mean sd rest <<<"$(summary "${finished[@]}")"
        text="$mean${sd:+ ± $sd} (n = $n)"
    fi
    [ $begun -le ${#finished[@]} ] || text+=", $((begun - ${#finished[@]})) begun"
    echo "$text"
}

pad() { printf '%s%*s' "$2" $(($1 > ${#2} ? $1 - ${#2} : 1)) ""; } # printf's own width counts bytes

list_all() {
    local i t="" scale text
    for i in "${!row_name[@]}"; do
        if [ "$t" != "${row_table[$i]}" ]; then
            t=${row_table[$i]}
            printf '\n%s: %s\n  %-20s%-16s%-26s%s\n' "$t" "${table_title[$t]}" row "the paper's" \
                "ours, --scale paper" "--scale small"
        fi
        pad 22 "  ${row_name[$i]}"
        pad 16 "${row_paper[$i]:-–}"
        for scale in paper small; do
            text=""
            if at_scale "$i"; then look_at "$i" && text=$(ours); fi
            pad 26 "$text"
        done
        printf '%s\n' "${row_note[$i]}"
    done
}

# One line per row: parameters|GFLOP to train on an image|epochs or steps|which of the two|micro-batches|images in each
plan() { # plan DATA FLAGS...
    local classes
    classes=$(set_field "$1" 3)
    shift
    "$train" "$@" --device cpu --dry-run --classes "$classes" | awk '
        $1 == "parameters" { parameters = $2 }
        $1 == "compute" { gflop = $7 }
        $1 == "training" { length_ = $2; unit = $3; accum = $7; batch = $(NF - 1) }
        END {
            if (unit == "") { exit 1 }
            sub(";", "", unit)
            print parameters "|" gflop "|" length_ "|" unit "|" accum "|" batch
        }'
}

# Rows at each of their scales: is it a valid command, with the paper's parameters, to half of the last printed digit?
check_rows() { # check_rows [TABLE]
    local i scale line parameters verdict failed=0
    for scale in paper small; do
        for i in "${!row_name[@]}"; do
            in_table "$i" "${1:-${row_table[$i]}}" || continue
            look_at "$i"
            line=$(plan "$data" $flags "${extra[@]}")
            verdict=$? parameters=${line%%|*}
            [ $verdict != 0 ] && verdict="not a command" || verdict=ok
            if [ "$verdict" = ok ] && [ $scale = paper ] && [ -n "${row_params[$i]}" ]; then
                verdict=$(awk -v ours="$parameters" -v theirs="${row_params[$i]}" 'BEGIN {
                    decimals = length(theirs) - 1 - index(theirs, "."); off = ours / 1e6 - theirs
                    print (off < 0 ? -off : off) <= 0.5 / 10 ^ decimals + 1e-9 ? "ok" : "not the paper'"'"'s count" }')
            fi
            [ "$verdict" = ok ] || failed=1
            printf '%-6s%-26s%-20s%12s %-8s %s\n' $scale "${row_table[$i]}" "${row_name[$i]}" "${parameters:-–}" \
                "${row_params[$i]:-–}" "$verdict"
        done
    done
    return $failed
}

# ----------------------------------------------------------------------------------------------------------------------
# Before a row is run

complain() { echo "error: $*" >&2; return 1; }
fail() { echo "error: $*" >&2; exit "${status:-1}"; }
usage() { status=2 fail "$* (scripts/reproduce.sh without arguments lists all tables; its head has the options)"; }

# Whether the current row's data are there, unless the command names others
need_data() {
    [[ $at = procedural || " $added" == *" --data"* ]] || [ -e "$at.train.kds" ] || [ -e "$at/train.index" ] ||
        fail "$at is not there. It is made by ./convert_data $(awk -v name="$data" -v root="$data_root" '$1 == name {
            sub(/^[^ ]+ +[^ ]+ +[^ ]+ +/, ""); gsub(/DATA-ROOT/, root); sub(":", ", FOLDER with"); print }' <<<"$sets")"
}

# find_start ROW SEED: the file that its --init-from refers to, in $start; "": none
find_start() {
    local name=${flags#*--init-from @} i others="-- --init-from FILE takes others"
    start=""
    [[ "$flags" == *"--init-from @"* && " $added" != *" --init-from"* ]] || return 0
    name=${name%% *}
    if [[ $name = /* ]]; then
        start=$data_root/weights$name
        [ -e "$start" ] || complain "$start is not there: timm's weights of that name. $others"
        return
    fi
    for i in "${!row_name[@]}"; do
        [ "${row_table[$i]}" = "$name" ] && [ "${row_name[$i]}" = "${row_name[$1]}" ] && break
    done
    start=$(added="" && look_at "$i" && echo "$folder/s$2/best.safetensors")
    [ -e "$start" ] || 
        complain "$start is not there: scripts/reproduce.sh $name ${row_name[$1]} makes it. $others"
}

# Images per second and training images: from existing runs, else from a short --profile
measure() { # measure BATCH
    local metrics=("$folder"/s*/metrics.csv) logs=("$folder"/s*.log) rate="" batch=$1
    if [ -e "${metrics[0]}" ]; then rate=$(summary "${metrics[@]%/metrics.csv}" | cut -d'|' -f12); fi
    if [ "${rate:-0}" = 0 ]; then
        [ ${#gpus[@]} -gt 0 ] || [ "$batch" -le 8 ] || batch=8
        logs=("$work/profile")
        "$train" ${flags%% --init-from*} --data "$at" --threads "$threads" $machine_flags "${extra[@]}" \
            --batch-size "$batch" --grad-accum-steps 1 --profile 2 >"$work/profile" 2>&1
        rate=$(awk '$NF == "images/s" { print $(NF - 1) }' "$work/profile")
    fi
    echo "${rate:-0} $(awk '$1 == "data" && !n { n = $3 } END { print n }' "${logs[@]}" 2>/dev/null)"
}

announce() { # announce ROW: its cost here
    local parameters gflop length unit accum batch rate images
    IFS='|' read -r parameters gflop length unit accum batch <<<"$(plan "$data" $flags "${extra[@]}")"
    [ -n "$parameters" ] || fail "${row_table[$1]} ${row_name[$1]} is no command: ./train_kat $flags $added"
    read -r rate images <<<"$(measure "$batch")"
    echo
    echo "${row_table[$1]} ${row_name[$1]}: the paper's ${row_paper[$1]:-–}${row_note[$1]:+ (${row_note[$1]})}"
    echo "    ./train_kat $flags $machine_flags $added"
    awk -v parameters="$parameters" -v gflop="$gflop" -v length_="$length" -v unit="$unit" -v accum="$accum" \
        -v batch="$batch" -v rate="$rate" -v images="${images:-$(set_field "$data" 2)}" 'BEGIN {
        epoch = images < batch ? 1 : int(int(images / batch) / accum)
        steps = unit == "steps" ? length_ : length_ * (epoch < 1 ? 1 : epoch)
        seen = steps * accum * (images < batch ? images : batch)
        printf "    %d parameters; %.4g GFLOP an image, %d steps of %d, %.3g PFLOP",
            parameters, gflop, steps, accum * batch, 1e-6 * gflop * seen
        if (rate + 0) { printf "; %.4g images/s here: %.3g hours a run", rate, seen / rate / 3600 }
        print "" }'
}

# The rows of the command, in chosen
choose() { # choose TABLE ROW...
    local i name table=${1:-}
    chosen=()
    [ $# -gt 0 ] || return 0
    [ -n "${table_title[$table]:-}" ] || usage "there is no table $table: ${table_names[*]}"
    shift
    for i in "${!row_name[@]}"; do
        in_table "$i" "$table" || continue
        if [ $# = 0 ] || [[ " $* " = *" ${row_name[$i]} "* ]]; then chosen+=("$i"); fi
    done
    for name in "$@"; do
        for i in "${chosen[@]}"; do [ "${row_name[$i]}" != "$name" ] || continue 2; done
        usage "$table has no row $name at --scale $scale"
    done
    [ ${#chosen[@]} -gt 0 ] || usage "$table has no rows at --scale $scale"
}

# The available GPUs, or those in CUDA_VISIBLE_DEVICES; on them runs are in bf16, since the papers' are in 16 bits
find_gpus() {
    local count
    count=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU')
    [ "$count" -gt 0 ] || return
    IFS=, read -ra gpus <<<"${CUDA_VISIBLE_DEVICES:-$(seq -s, 0 $((count - 1)))}"
    machine_flags="--precision bf16"
}

# The programs that summarise runs
build_compare() {
    compare=${COMPARE_RUNS:-./compare_runs}
    [ -n "${COMPARE_RUNS:-}" ] || make -s compare_runs || exit 1
}

build() {
    train=${TRAIN_KAT:-./train_kat}
    [ -z "${TRAIN_KAT:-}" ] || return 0
    make -s train_kat convert_data || exit 1
    [ ${#gpus[@]} = 0 ] || make -s train_katcu || exit 1
}

# ----------------------------------------------------------------------------------------------------------------------
# Runs

# The GPU with the fewest runs, in $gpu
choose_gpu() {
    local one other count least=""
    gpu=""
    for one in "${gpus[@]}"; do
        count=0
        for other in "${on_gpu[@]}"; do [ "$other" != "$one" ] || count=$((count + 1)); done
        if [ -z "$least" ] || [ $count -lt "$least" ]; then gpu=$one least=$count; fi
    done
}

# start_run ROW SEED: in the background
start_run() {
    look_at "$1"
    local run=$folder/s$2 command="$flags $machine_flags $added" start
    find_start "$1" "$2" || return
    mkdir -p "$folder" || exit 1
    if [ -e "$run.command" ] && [ "$(head -n 1 "$run.command")" != "$command" ]; then
        complain "$run was begun as another run, by $(head -n 1 "$run.command"): move it and its .command away"
        return
    fi
    [ -e "$run.command" ] || echo "$command" >"$run.command"
    git describe --always --dirty >>"$run.command" 2>/dev/null
    choose_gpu
    # shellcheck disable=SC2086
    env ${gpu:+CUDA_VISIBLE_DEVICES=$gpu} "$train" ${flags%% --init-from*} --seed "$2" --data "$at" \
        --threads "$threads" $machine_flags ${start:+--init-from "$start"} "${extra[@]}" \
        --output "$run" --continue >>"$run.log" 2>&1 &
    running[$!]=$run on_gpu[$!]=$gpu
    [ -z "$stopping" ] || stop # a signal may have arrived in between
}

# For every run that has ended
collect() {
    local pid run
    for pid in "${!running[@]}"; do
        ! kill -0 "$pid" 2>/dev/null || continue
        wait "$pid"
        local status=$?
        run=${running[$pid]}
        unset "running[$pid]" "on_gpu[$pid]"
        case $status$stopping in
        0*) echo "${run#"$output/"}: $(tail -n 1 "$run.log" | cut -d';' -f1)" ;;
        3* | *yes) echo "${run#"$output/"}: $(tail -n 1 "$run.log" | cut -d: -f1)" ;;
        *) echo "$run failed: $(tail -n 1 "$run.log")" >&2; broken=1 ;;
        esac
    done
}

stop() {
    stopping=yes
    [ ${#running[@]} = 0 ] || kill -TERM "${!running[@]}" 2>/dev/null # each saves and ends
}

# What is not done of the chosen rows: first seed 1 of all
run_chosen() {
    local seed i
    local -A seen=()
    trap stop INT TERM HUP
    for ((seed = 1; seed <= seeds; seed++)); do
        for i in "${chosen[@]}"; do
            look_at "$i"
            [ -z "$stopping" ] || break 2
            [ -z "${seen[$folder/$seed]:-}" ] && ! is_done "$folder/s$seed" || continue
            seen[$folder/$seed]=yes
            start_run "$i" "$seed" || broken=1
            while [ ${#running[@]} -ge "$jobs" ]; do wait -n; collect; done
        done
    done
    while [ ${#running[@]} -gt 0 ]; do wait -n; collect; done
    trap - INT TERM HUP
}

# ----------------------------------------------------------------------------------------------------------------------
# The table of results so far

write_table() { # write_table TABLE: all of it, whichever rows were chosen
    local i n top1 sd1 top5 sd5 loss sdl each seeds_run steps flop rate hours ours paper file
    file_name "$scale-$1${added:+ $added}"
    local to=$output/$file
    mkdir -p "$output" && exec 3>"$to.csv" 4>"$to.md" || exit 1
    printf '%s,' table row flags parameters paper_parameters paper n top1 top1_sd top5 top5_sd loss loss_sd each_top1 \
        steps pflop images_per_second >&3
    echo hours >&3
    printf '%s: `scripts/reproduce.sh %s`, on %s\n\n' "${table_title[$1]}" "$asked" "$(machine)" >&4
    printf '| %s ' row "the paper's, n = 1" "top-1, %" n each "top-5, %" "test loss" "parameters (the paper's)" \
        steps PFLOP images/s hours >&4
    echo "|" >&4
    echo "|---|---|---|---|---|---|---|---|---|---|---|---|" >&4
    for i in "${!row_name[@]}"; do
        in_table "$i" "$1" || continue
        look_at "$i"
        IFS='|' read -r n top1 sd1 top5 sd5 loss sdl each seeds_run steps flop rate hours <<<"$(summary "${finished[@]}")"
        ours=$(cat /dev/null "$folder"/s*.log 2>/dev/null | awk '$1 == "parameters" { print $2; exit }')
        paper=${row_params[$i]}
        printf '%s,' "$1" "${row_name[$i]}" "\"$flags${added:+ $added}\"" "$ours" "$paper" "${row_paper[$i]}" "$n" \
            "$top1" "$sd1" "$top5" "$sd5" "$loss" "$sdl" "$each" "$steps" "$flop" "$rate" >&3
        echo "$hours" >&3
        printf '| %s ' "${row_name[$i]}" "${row_paper[$i]:-–}" "${top1:-–}${sd1:+ ± $sd1}" "$n" "${each// /, }" \
            "${top5:-–}${sd5:+ ± $sd5}" "${loss:-–}${sdl:+ ± $sdl}" "${ours:-–}${paper:+ ($paper)}" \
            "${steps:-–}" "${flop:-–}" "${rate:-–}" "${hours:-–}" >&4
        echo "|" >&4
    done
    # shellcheck disable=SC2086
    [ -z "$reduced" ] || printf '\nReduced: on %s, with `%s`.\n' "$data" "$(echo $reduced)" >&4
    printf '\nCommits of the runs: %s.\n' "$(commits_of "$1")" >&4
    exec 3>&- 4>&-
    echo
    cat "$to.md"
    echo "left in $to.md and $to.csv"
}

machine() {
    if [ ${#gpus[@]} -gt 0 ]; then nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1; return; fi
    echo "$(nproc) cores of $(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo)"
}

commits_of() {
    local i
    for i in "${!row_name[@]}"; do
        in_table "$i" "$1" && look_at "$i" && tail -qn +2 "$folder"/s*.command 2>/dev/null
    done | sort -u | paste -sd' '
}

# ----------------------------------------------------------------------------------------------------------------------

scale=paper seeds=3 jobs=1 data_root=datasets output=runs/reproduce check=no words=() extra=() asked="$*"
gpus=() machine_flags="" broken=0 stopping=""
declare -A running=() on_gpu=()

number() { [[ $2 =~ ^[1-9][0-9]{0,3}$ ]] || usage "$1 $2 is no number from 1 to 9999"; }

read_arguments() {
    while [ $# -gt 0 ]; do
        case $1 in --scale | --seeds | --jobs | --data-root | --output) [ $# -gt 1 ] || usage "$1 needs a value" ;; esac
        case $1 in
        --scale) scale=$2; shift ;;
        --seeds) number "$1" "$2"; seeds=$2; shift ;;
        --jobs) number "$1" "$2"; jobs=$2; shift ;;
        --data-root) data_root=${2%/}; shift ;;
        --output) output=${2%/}; shift ;;
        --check) check=yes ;;
        --) shift; extra=("$@"); break ;;
        -*) usage "unknown option $1" ;;
        *) words+=("$1") ;;
        esac
        shift
    done
    [ "$scale" = paper ] || [ "$scale" = small ] || usage "--scale $scale is neither paper nor small"
    added="${extra[*]}"
    threads=$(($(nproc) / jobs))
    [ "$threads" -gt 0 ] || threads=1
}

# In a function, so that bash has read all of this file first: it may be edited during runs.
main() {
    local i
    read_arguments "$@"
    list_tables
    [ $check = yes ] || build_compare
    if [ ${#words[@]} = 0 ] && [ $check = no ]; then list_all; exit; fi
    choose "${words[@]}"
    work=$(mktemp -d) || exit 1
    trap 'rm -rf "$work"' EXIT
    find_gpus
    build
    if [ $check = yes ]; then check_rows "${words[@]:0:1}"; exit; fi
    for i in "${chosen[@]}"; do
        look_at "$i"
        is_missing || continue
        need_data
        announce "$i"
    done
    run_chosen
    write_table "${words[0]}"
    [ -z "$stopping" ] || { echo "stopped: the same command goes on"; exit 3; }
    exit $broken
}
main "$@"
