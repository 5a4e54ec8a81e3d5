// ComfyUI translates node names and tooltips from locales/; what an extension draws itself it has to say itself.
const MESSAGES = {
  en: {
    empty: "Run the graph once: the face box appears here, with a line to set bbox_shift.",
    missing: "The preview picture is gone; run the graph again.",
    slider: "Middle line (bbox_shift); lower opens the mouth more",
    linked: "bbox_shift is set by a link",
    shift: (value) => `shift ${value} px`,
    useful: (low, high) => `useful ${low} to ${high}`,
    frame: (frame, position, count) => `frame ${frame} (${position}/${count})`,
    previous: "Previous frame",
    next: "Next frame",
    whole: "Whole frame",
    face: "Face only",
  },
  zh: {
    empty: "先运行一次工作流：这里会显示人脸框，并可拖动横线来设置 bbox_shift。",
    missing: "预览图已被清除，请重新运行工作流。",
    slider: "中线（bbox_shift），越低嘴张得越大",
    linked: "bbox_shift 由连线决定",
    shift: (value) => `偏移 ${value} 像素`,
    useful: (low, high) => `建议 ${low} 到 ${high}`,
    frame: (frame, position, count) => `第 ${frame} 帧(${position}/${count})`,
    previous: "上一帧",
    next: "下一帧",
    whole: "整帧",
    face: "仅人脸",
  },
  ja: {
    empty: "一度実行すると、ここに顔の枠と bbox_shift を決める線が表示されます。",
    missing: "プレビュー画像がありません。もう一度実行してください。",
    slider: "中央線（bbox_shift）。下げるほど口が大きく開きます",
    linked: "bbox_shift は接続された値を使います",
    shift: (value) => `シフト ${value} px`,
    useful: (low, high) => `目安 ${low} ～ ${high}`,
    frame: (frame, position, count) => `フレーム ${frame}(${position}/${count})`,
    previous: "前のフレーム",
    next: "次のフレーム",
    whole: "フレーム全体",
    face: "顔のみ",
  },
};

/** The texts of ComfyUI's interface language, English where there are none. */
export function messagesFor(locale) {
  return MESSAGES[locale] ?? MESSAGES.en;
}
