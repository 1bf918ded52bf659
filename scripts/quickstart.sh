#!/usr/bin/env bash
# From a fresh machine to two trained models: a small KAT with Fourier-KArAt attention, and the ViT of the same size, on
# Fashion-MNIST (from the Debian package, without another download), then their accuracies side by side.
#
# The cost: a 28x28 image in 7x7 patches is N = 4*4 + 1 = 17 tokens. With C = 64, H = 2, L = 3 the ViT's forward pass is
# L (12 N C^2 + 2 N^2 C) + 16 * 147 C = 2.8 M multiply-adds, 5.5 MFLOP, and three times that with the backward pass;
# KArAt (r = 12, G = 3) adds 4 %. Each run takes 1,500 steps of 64 images, 1.6 passes over the 60,000, and evaluates
# twice on 10,000:
#     2 * (96,000 * 17 MFLOP + 20,000 * 5.6 MFLOP) = 3.5 TFLOP,
# a minute and a half at 40 GFLOP/s (2 cores, small matrices); packages and the build take another minute.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
. scripts/setup.sh
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}" # waiting threads sleep: other programs may need the core

size_flags="--dim 64 --depth 3 --heads 2"
steps=1500
train_flags="--steps $steps --batch-size 64 --lr 2e-3 --warmup-epochs 0.1 --clip-grad 1"
kat_flags="--model kat-mini-g3b"
vit_flags="--model vit-mini"
source_folder=/usr/share/datasets/fashion-mnist

install_missing "${build_packages[@]}" "${data_packages[@]}"
make -s -j "$(nproc)" train_kat convert_data || { echo "The build failed; \`make\` says what is missing." >&2; exit 1; }

data=datasets/fashion-mnist image_flags="--image-size 28 --patch 7"
if [ -d "$source_folder" ] && ./convert_data fashion-mnist "$source_folder" datasets; then
    echo "Data: Fashion-MNIST, 10 classes of clothing"
else
    echo "Fashion-MNIST is not there (package dataset-fashion-mnist): using the procedural set of shapes and textures."
    data=procedural image_flags="--image-size 32 --patch 8"
fi

# train NAME FLAGS...: into runs/quickstart-NAME
train() {
    local name=$1
    shift
    echo
    echo "== $name"
    # shellcheck disable=SC2086
    ./train_kat "$@" $size_flags $image_flags $train_flags --data "$data" --overwrite --output "runs/quickstart-$name" || exit 1
}

# column NAME RUN: lines "step value" of metrics.csv for which that column has a value; columns are found by name
column() {
    awk -F, -v name="$1" '
        NR == 1 { for (i = 1; i <= NF; i++) { place[$i] = i } next }
        $place[name] != "" { print $place["step"], $place[name] }' "runs/quickstart-$2/metrics.csv"
}

last() { column "$1" "$2" | awk 'END { printf "%.2f", $2 }'; }

report() {
    printf '\nTest accuracy (top-1 ± standard error) after %s steps on %s\n' "$steps" "$(basename "$data")"
    printf '%-36s %6s ± %s %%\n' "KAT with Fourier-KArAt attention" "$(last test_top1 kat)" "$(last test_top1_se kat)"
    printf '%-36s %6s ± %s %%\n' "ViT (softmax, GELU)" "$(last test_top1 vit)" "$(last test_top1_se vit)"
}

curves() {
    local folder
    folder=$(mktemp -d)
    for name in kat vit; do column train_accuracy $name >"$folder/$name"; done
    echo
    if command -v gnuplot >/dev/null; then
        gnuplot -e "set terminal dumb 100 24; set title 'training accuracy, % (running)'; set xlabel 'step'; \
            set key bottom right; \
            plot '$folder/kat' with lines title 'KAT + KArAt', '$folder/vit' with lines title 'ViT'"
    else
        echo "training accuracy, % (gnuplot-nox would draw it)"
        printf '%8s %8s %8s\n' step KAT ViT
        join <(sort -k 1b,1 "$folder/kat") <(sort -k 1b,1 "$folder/vit") | sort -n | \
            awk '{ line[NR] = sprintf("%8d %8.1f %8.1f", $1, $2, $3) }
                 END { every = int((NR + 14) / 15) # at most 15 lines, the last step among them
                       for (i = 1; i <= NR; i++) { if ((NR - i) % every == 0) { print line[i] } } }'
    fi
    rm -rf "$folder"
}

# shellcheck disable=SC2086
train kat $kat_flags
# shellcheck disable=SC2086
train vit $vit_flags
report
curves
cat <<END

Left in runs/quickstart-kat and runs/quickstart-vit:
    best.safetensors, last.safetensors    the parameters, under timm's names
    last.resume.safetensors               what --resume needs to go on
    best/                                 the best parameters as a folder that timm opens
    metrics.csv, config.txt               every number above, and every option
Took $SECONDS s. Next: ./train_kat --help
END
